"""Files we wrote, opened again: each lies over the slide it was made of.

Pure functions, no viewer import.  What a file says of itself comes from anywhere, so it is checked
before anything is placed by it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from .fusion.method import MASK
from .layer_metadata import (
    KEY,
    Axes,
    LayerData,
    map_kind,
    map_looks,
    overlay_axes,
    slide_layers,
)
from .placement import Placement, finite_numbers
from .readers.pixel_map import PixelMap
from .slide import Slide

_WHOLE = Placement((0, 0), (1.0, 1.0))


def placed_axes(placement: Placement, mpp: tuple[float, float] | None) -> Axes:
    """Return the axes of a result of ``mpp`` (y, x) um per pixel over its slide's layer."""
    down = placement.downsample
    full = (1.0, 1.0) if mpp is None else (mpp[0] / down[0], mpp[1] / down[1])
    units = ("pixel",) * 2 if mpp is None else ("um",) * 2
    return overlay_axes(Axes(full, (0.0, 0.0), units, ("y", "x")), down, placement.origin)


def result_layers(slide: Slide, provenance: Mapping[str, Any]) -> list[LayerData]:
    """Return the layers of a fused picture that was opened as a slide, in its place."""
    layers = slide_layers(slide)
    placement = Placement.noted(provenance)
    for _, keywords, _ in layers:
        keywords["metadata"][KEY]["provenance"] = dict(provenance)
        if placement is not None and len(slide.planes) == 1:
            keywords.update(placed_axes(placement, slide.mpp).keywords())
    return layers


def map_layers(source: PixelMap, provenance: Mapping[str, Any]) -> list[LayerData]:
    """Return the layer of a map: a blur mask in red, anything else in colours over its range.

    The map is closed when the layer is gone.
    """
    name = map_name(source, provenance)
    about = _maps(provenance).get(name or "", {})
    stem = source.path.name.partition(".ome.")[0]
    axes = placed_axes(Placement.noted(provenance) or _WHOLE, source.mpp)
    keywords: dict[str, Any] = {
        "name": stem,
        "rgb": False,
        "multiscale": True,
        "metadata": {
            KEY: {
                "kind": map_kind(name),
                "map": name,
                "unit": about.get("unit"),
                "mpp": source.mpp,
                "provenance": dict(provenance),
            }
        },
        **map_looks(name, _limits(source, about)),
        **axes.keywords(),
    }
    levels = list(source.levels)
    weakref.finalize(levels[0], source.close)
    return [(levels, keywords, "image")]


def map_name(source: PixelMap, provenance: Mapping[str, Any]) -> str | None:
    """Return which of the maps of a fusion a file holds, or None if it does not say.

    The entry ``map`` names it.  Without it, a map of floats is the one that has a unit, and one of
    bytes the one that has none.
    """
    if isinstance(name := provenance.get("map"), str):
        return name
    floats = source.levels[0].dtype.kind == "f"
    fitting = [
        name
        for name, about in _maps(provenance).items()
        if (about.get("unit") is not None) == floats
    ]
    if MASK.name in fitting or (provenance.get("mask_plane") and not floats):
        return MASK.name
    return fitting[0] if len(fitting) == 1 else None


def _maps(provenance: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    maps = provenance.get("maps")
    if not isinstance(maps, dict):
        return {}
    return {name: about for name, about in maps.items() if isinstance(about, dict)}


def _limits(source: PixelMap, about: Mapping[str, Any]) -> tuple[float, float]:
    """Return the range of a map as the file says it, or as its coarsest level has it."""
    if source.levels[0].dtype.kind != "f":
        return 0, 255
    stated = [about.get("low"), about.get("high")]
    if finite_numbers(stated, 2) and stated[0] < stated[1]:
        return stated[0], stated[1]
    values = source.levels[-1][:]
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 1, low + 1)
