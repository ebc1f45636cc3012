"""What the viewer needs to know of slides and results: layers as plain tuples, placed and scaled.

Pure functions, no viewer import.  A layer is ``(data, keyword arguments, "image")``.  Everything
the plugin must find again lies in ``metadata["focusfuse"]`` of the layer.
"""

from __future__ import annotations

import math
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .dyadic import DyadicSlide
from .fusion.maps import CONFIDENCE, CONFIDENT, DEPTH
from .fusion.method import INFERRED, MASK
from .slide import FocalPlane, Region, Slide, UInt8Image
from .slide_array import SlideArray, TileCache

LayerData = tuple[Any, dict[str, Any], str]

KEY = "focusfuse"
"""Where our entries lie in a layer's metadata."""

MASK_COLOUR = (1.0, 69 / 255, 58 / 255)
MASK_OPACITY = 0.35
INFERRED_COLOUR = (191 / 255, 90 / 255, 242 / 255)
INFERRED_OPACITY = 0.7
MAP_COLOURS = "viridis"
"""Colours of other maps: perceptually uniform, and read alike by the colour-blind."""
BLURRED = 128
"""Smallest stored mask value that counts as blurred: round(255 * P) for P >= 0.5."""

FOREGROUND_CHROMA = 20
"""A pixel is foreground where its largest and smallest channel differ by more than this, of 255."""

DIFFERENCE_LIMIT = 64
"""Grey values at which the colours of a difference layer end."""


@dataclass(frozen=True)
class Axes:
    """How array axes lie in the world; one entry per axis, the colour axis left out."""

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    labels: tuple[str, ...]

    def keywords(self) -> dict[str, Any]:
        """Return them as the viewer's layer arguments."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "units": self.units,
            "axis_labels": self.labels,
        }

    def image(self) -> Axes:
        """Return the last two axes."""
        return Axes(self.scale[-2:], self.translate[-2:], self.units[-2:], self.labels[-2:])


@dataclass(frozen=True)
class ViewWindow:
    """What is in view: a plane and a rectangle, in pixels of the slide's level 0.

    Pixel ``i`` covers ``[i, i + 1)``.
    """

    plane: int
    """Index of the focal plane at the slider."""
    top: float
    left: float
    bottom: float
    right: float

    def at(self, downsample: Sequence[float], shape: tuple[int, int]) -> Region:
        """Return the smallest region of a level that covers the window, clipped to the level.

        Parameters
        ----------
        downsample
            (y, x) pixels of level 0 for one of the level.
        shape
            (height, width) of the level in pixels.
        """
        y, x = math.floor(self.top / downsample[0]), math.floor(self.left / downsample[1])
        bottom = math.ceil(self.bottom / downsample[0])
        right = math.ceil(self.right / downsample[1])
        return Region(y, x, max(bottom - y, 0), max(right - x, 0)).clipped(*shape)


def length_um(value: float, unit: Any) -> float | None:
    """Return a length in micrometres, or None if the unit (pint's) is no length."""
    quantity = value * unit
    return float(quantity.to("um").magnitude) if quantity.check("[length]") else None


def pixel_size_um(scale: Sequence[float], units: Sequence[Any]) -> tuple[float, float] | None:
    """Return the (y, x) micrometres per pixel of a layer's last two axes, or None if unknown."""
    y, x = (length_um(float(scale[axis]), units[axis]) for axis in (-2, -1))
    return None if y is None or x is None else (abs(y), abs(x))


def slide_axes(slide: Slide) -> Axes:
    """Return (z, y, x) in um where the slide knows them, in pixels and steps where it does not."""
    heights = [plane.z_um for plane in slide.planes]
    known = [z for z in heights if z is not None]
    if slide.mpp is None:
        # One axis without a scale makes the others meaningless together, so all are in pixels.
        return Axes((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ("pixel",) * 3, ("z", "y", "x"))
    if len(known) < 2 or len(known) < len(heights):
        return Axes((1.0, *slide.mpp), (0.0, 0.0, 0.0), ("pixel", "um", "um"), ("z", "y", "x"))
    step = (known[-1] - known[0]) / (len(known) - 1)
    return Axes((step, *slide.mpp), (known[0], 0.0, 0.0), ("um",) * 3, ("z", "y", "x"))


def slide_layers(slide: Slide) -> list[LayerData]:
    """Return the layers of a slide: its stack, then its extended focus (hidden) if it has one.

    All are lazy and share one tile cache; a slide of one plane has no z axis.  The slide is closed
    when the last layer, or fusion, that reads it is gone.
    """
    view = DyadicSlide(slide)
    weakref.finalize(view, slide.close)
    cache = TileCache()
    slide_id = uuid.uuid4().hex
    name = slide_name(slide)
    axes = slide_axes(view)
    single = len(view.planes) == 1
    # The stack comes first: the viewer puts the z slider to the middle of the first layer.
    stack = _slide_layer(view, cache, view.planes, single, axes.image() if single else axes)
    stack[1]["name"] = name
    layers = [stack]
    if view.extended is not None:
        layer = _slide_layer(view, cache, (view.extended,), True, axes.image())
        layer[1].update(name=f"{name} extended focus", visible=False)
        layers.append(layer)
    for _, keywords, _ in layers:
        keywords["metadata"][KEY]["slide_id"] = slide_id
    return layers


def _slide_layer(
    slide: Slide, cache: TileCache, planes: Sequence[FocalPlane], flat: bool, axes: Axes
) -> LayerData:
    arrays = [
        SlideArray(slide, level, cache, planes, flat=flat) for level in range(len(slide.levels))
    ]
    ours = {
        "kind": "extended focus" if planes[0] == slide.extended else "slide",
        "slide": slide,
        "planes": tuple(plane.name for plane in planes),
        "z_um": tuple(plane.z_um for plane in planes),
        "mpp": slide.mpp,
        "notes": (*slide.warnings, *slide.not_shown),
    }
    keywords = {
        "rgb": True,
        "multiscale": True,
        "contrast_limits": (0, 255),
        "metadata": {KEY: ours},
        **axes.keywords(),
    }
    return arrays, keywords, "image"


def slide_name(slide: Slide) -> str:
    """Return the file's name without the endings that say nothing, such as ``.ome.tif``."""
    return slide.path.name.partition(".ome.")[0] if ".ome." in slide.path.name else slide.path.stem


def overlay_axes(slide: Axes, downsample: Sequence[float], origin: tuple[int, int]) -> Axes:
    """Return the axes of a 2D layer that covers a region of a slide layer exactly.

    The viewer puts the centre of a layer's first pixel at its ``translate``, but draws a coarse
    level of a pyramid with the centring of level 0: hence the half-pixel term ``(d - 1) / 2``.

    Parameters
    ----------
    slide
        Axes of the slide's layer.
    downsample
        (y, x) factor of the region's level, as the viewer computes it from the level shapes.
    origin
        (y, x) of the region's first pixel at its level.
    """
    image = slide.image()
    factors = [float(d) for d in downsample]
    scale = tuple(s * d for s, d in zip(image.scale, factors, strict=True))
    translate = tuple(
        t + s * (first * d + (d - 1) / 2)
        for t, s, d, first in zip(image.translate, image.scale, factors, origin, strict=True)
    )
    return Axes(scale, translate, image.units, image.labels)


def fused_layer(
    region: Region, axes: Axes, *, name: str, provenance: Mapping[str, Any], **ours: Any
) -> LayerData:
    """Return an empty RGBA layer for a fusion of a region; alpha is 0 where nothing is done yet."""
    data = np.zeros((region.height, region.width, 4), dtype=np.uint8)
    keywords = {
        "name": name,
        "rgb": True,
        "multiscale": False,
        "metadata": {KEY: {"kind": "fused", "provenance": dict(provenance), **ours}},
        **axes.keywords(),
    }
    return data, keywords, "image"


def blurred_colours() -> dict[str, Any]:
    """Return the colours of a blur mask: clear, and red from P = 0.5 on."""
    return {
        "name": "focusfuse blurred",
        "colors": [(*MASK_COLOUR, 0.0), (*MASK_COLOUR, 1.0)],
        "controls": [0.0, (BLURRED - 0.5) / 255, 1.0],
        "interpolation": "zero",
    }


def inferred_colours() -> dict[str, Any]:
    """Return the colours of the inferred: clear where layers hold the detail, else violet."""
    return {
        "name": "focusfuse inferred",
        "colors": [(*INFERRED_COLOUR, 0.0), (*INFERRED_COLOUR, 0.0), (*INFERRED_COLOUR, 1.0)],
        # Less than a tenth is the noise of the measure.
        "controls": [0.0, 0.1, 1.0],
    }


def map_looks(name: str | None, limits: tuple[float, float]) -> dict[str, Any]:
    """Return how a map is shown: a blur mask in red, any other in even steps of colour.

    Parameters
    ----------
    limits
        What the colours span, in the map's values; a mask has its own.
    """
    if name == MASK.name:
        colours = {"colormap": blurred_colours(), "opacity": MASK_OPACITY}
        return {"contrast_limits": (0, 255), "blending": "translucent", **colours}
    if name == INFERRED.name:
        colours = {"colormap": inferred_colours(), "opacity": INFERRED_OPACITY}
        return {"contrast_limits": (0, 255), "blending": "translucent", **colours}
    return {"contrast_limits": limits, "blending": "translucent", "colormap": MAP_COLOURS}


def map_layer(
    region: Region,
    axes: Axes,
    which: str,
    about: Mapping[str, Any],
    *,
    name: str,
    provenance: Mapping[str, Any],
    **ours: Any,
) -> LayerData:
    """Return an empty layer for a map of a fusion.

    A map without a unit is uint8, 255 for 1, and starts at 0; one with a unit is float32 in it and
    starts as NaN, which is clear.  It is filled by :func:`shown_map`.

    Parameters
    ----------
    which
        The map's name, such as ``"mask"``.
    about
        Its ``unit``, ``low`` and ``high``, as a provenance's ``maps`` say them.
    """
    shape, unit = (region.height, region.width), about["unit"]
    share = unit is None
    data = np.zeros(shape, np.uint8) if share else np.full(shape, np.nan, np.float32)
    noted = {"kind": map_kind(which), "map": which, "unit": unit, "provenance": dict(provenance)}
    keywords = {
        "name": name,
        "rgb": False,
        "multiscale": False,
        "metadata": {KEY: {**noted, **ours}},
        **map_looks(which, (0, 255) if share else (about["low"], about["high"])),
        **axes.keywords(),
    }
    return data, keywords, "image"


def map_kind(which: str | None) -> str:
    """Return what a layer's metadata call the layer of a map."""
    return "blur mask" if which == MASK.name else "map"


def difference_layer(
    difference: npt.NDArray[np.int16], axes: Axes, *, name: str, **ours: Any
) -> LayerData:
    """Return a layer of a signed difference: blue below, white at 0, red above, fixed limits.

    Parameters
    ----------
    difference
        (Y, X) or (Y, X, 3) int16, image minus reference; channels are averaged.
    """
    data = difference if difference.ndim == 2 else difference.mean(axis=-1).astype(np.float32)
    keywords = {
        "name": name,
        "rgb": False,
        "multiscale": False,
        "contrast_limits": (-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT),
        "colormap": {
            "name": "focusfuse difference",
            "colors": [(0.23, 0.38, 0.95, 1.0), (1.0, 1.0, 1.0, 1.0), (0.86, 0.2, 0.18, 1.0)],
            "controls": [0.0, 0.5, 1.0],
        },
        "metadata": {KEY: {"kind": "difference", **ours}},
        **axes.keywords(),
    }
    return data, keywords, "image"


def on_white(image: UInt8Image) -> UInt8Image:
    """Return a (Y, X, 4) image without its alpha, over white; others as they are."""
    if image.ndim < 3 or image.shape[-1] != 4:
        return image
    colour = image[..., :3].copy()
    colour[image[..., 3] == 0] = 255
    return colour


def foreground(colour: UInt8Image) -> npt.NDArray[np.bool_]:
    """Return where a (Y, X, 3) uint8 image holds anything: its channels differ by over 20."""
    strong: npt.NDArray[np.bool_] = colour.max(-1) - colour.min(-1) > FOREGROUND_CHROMA
    return strong


def shown_mask(colour: UInt8Image, mask: UInt8Image) -> UInt8Image:
    """Return a blur mask without the background, where there is nothing to be blurred.

    Parameters
    ----------
    colour
        (Y, X, 3) uint8 picture.
    mask
        (Y, X) uint8, round(255 * P(blur)).
    """
    return np.where(foreground(colour), mask, np.uint8(0))


def shown_depth(depth: npt.NDArray[np.float32], confidence: UInt8Image) -> npt.NDArray[np.float32]:
    """Return a (Y, X) depth map with NaN where its confidence is too low to know the depth."""
    return np.where(confidence >= round(255 * CONFIDENT), depth, np.float32(np.nan))


def shown_map(
    name: str, colour: UInt8Image, maps: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Return one of the maps of a (Y, X, 3) picture as it is shown: clear where it says nothing."""
    if name == MASK.name:
        return shown_mask(colour, maps[name])
    if name == DEPTH and CONFIDENCE in maps:
        return shown_depth(maps[name], maps[CONFIDENCE])
    return maps[name]


def blurred_fraction(rgba: UInt8Image, mask: UInt8Image) -> float | None:
    """Return which part of the foreground that is done is blurred; None where there is none.

    Parameters
    ----------
    rgba
        (Y, X, 4) uint8; alpha is 0 where nothing is done.
    mask
        (Y, X) uint8, round(255 * P(blur)).
    """
    cells = foreground(rgba[..., :3]) & (rgba[..., 3] > 0)
    count = int(np.count_nonzero(cells))
    return float(np.count_nonzero(mask[cells] >= BLURRED)) / count if count else None
