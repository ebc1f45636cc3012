"""The slide behind an image layer: the one a reader opened, or the layer's own array."""

from __future__ import annotations

from typing import Any

from napari_focusfuse.layer_metadata import KEY, length_um, pixel_size_um
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import Slide, UnsupportedSlideError

from ._view import layer_axes, level_shapes

NO_STACK = ("extended focus", "fused", "blur mask", "map", "difference", "finished blocks")
"""Kinds of our own layers that cannot be fused."""


def ours(layer: Any) -> dict[str, Any]:
    """Return what the plugin noted in a layer's metadata; empty for a foreign layer."""
    noted = layer.metadata.get(KEY)
    return noted if isinstance(noted, dict) else {}


def is_slide(layer: Any) -> bool:
    """Tell whether the user may want to fuse this layer: any image that is no result already."""
    return ours(layer).get("kind") not in NO_STACK


def slide_of(layer: Any) -> Slide:
    """Return the slide that a layer shows; reads no pixel.

    Raises
    ------
    UnsupportedSlideError
        If the layer is not 8-bit RGB, or has more than one axis besides y and x.
    """
    noted = ours(layer)
    if noted.get("kind") == "slide":
        return noted["slide"]
    if not layer.rgb:
        raise UnsupportedSlideError(
            f"{layer.name} is a grey image, and only colour (RGB, 8 bit) can be fused; convert it "
            "to RGB."
        )
    if layer.ndim > 3:
        raise UnsupportedSlideError(
            f"{layer.name} has {layer.ndim - 2} axes besides y and x, and one (z) can be fused; "
            "choose one position on the others."
        )
    data = list(layer.data) if layer.multiscale else layer.data
    mpp = pixel_size_um(layer.scale, layer.units)
    return ArraySlide(data, name=layer.name, mpp=mpp, z_um=heights_um(layer))


def layer_key(layer: Any) -> tuple[Any, ...]:
    """Return a value that changes when :func:`slide_of` would give another slide."""
    return id(layer), id(layer.data), layer.rgb, layer_axes(layer)


def heights_um(layer: Any) -> list[float] | None:
    """Return the z of each plane in um, or None if there is one, or z is no length."""
    if layer.ndim < 3:
        return None
    axes = layer_axes(layer)
    step = length_um(axes.scale[0], layer.units[0])
    start = length_um(axes.translate[0], layer.units[0])
    count = level_shapes(layer)[0][0]
    if step is None or start is None or step <= 0 or count < 2:
        return None
    return [start + index * step for index in range(count)]
