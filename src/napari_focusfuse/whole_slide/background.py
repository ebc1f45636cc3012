"""Which tiles hold nothing but empty glass: found at a low level, before anything is fused.

What a tile is depends on the slide and on where the tile lies, never on which block asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.slide import Slide, UInt8Image
from napari_focusfuse.tiles import Tile

TOLERANCE = 6
"""Grey levels by which a low-level pixel may differ from empty glass in any channel."""
_LEAST_DOWNSAMPLE = 8.0
_MOST_PIXELS = 1 << 25
_DARKEST_GLASS = 160
_MOST_CHROMA = 24

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Overview:
    """A low level of the fused planes."""

    colours: UInt8Image
    """(Y, X, 3) uint8 of the centre plane."""
    empty: npt.NDArray[np.bool_]
    """(Y, X): where every fused plane shows empty glass, or was not scanned."""
    factor: tuple[float, float]
    """(y, x) pixels of the fused level for one of these."""


def empty_tiles(plan: FusionPlan) -> Mapping[Tile, Colour]:
    """Return the tiles that need not be fused, and the colour of each.

    A tile is empty if at every pixel of a low level that it reads from, margins included, all fused
    planes are within :data:`TOLERANCE` of the colour of empty glass.  Its colour is the mean of
    layer 0 there.  Without a level that is at least eight times coarser nothing is called empty.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    """
    overview = _overview(plan)
    if overview is None or not overview.empty.any():
        return {}
    found = {}
    for tile in plan.tiles:
        rows, columns = _span(plan, tile, overview, 0), _span(plan, tile, overview, 1)
        if overview.empty[rows, columns].all():
            mean = overview.colours[rows, columns].reshape(-1, 3).mean(axis=0)
            red, green, blue = (round(float(value)) for value in mean)
            found[tile] = (red, green, blue)
    return found


def _overview(plan: FusionPlan) -> _Overview | None:
    slide = plan.slide
    level = _low_level(slide, plan.level)
    if level is None:
        return None
    height, width = slide.levels[level].shape
    fused, low = slide.levels[plan.level].downsample, slide.levels[level].downsample
    colours = slide.read_region(plan.centre, level, 0, 0, height, width)
    glass = _glass(colours)
    if glass is None:
        return None
    empty = np.ones((height, width), np.bool_)
    for plane in dict.fromkeys((plan.centre, *plan.planes)):
        image = colours
        if plane != plan.centre:
            image = slide.read_region(plane, level, 0, 0, height, width)
        empty &= _near(image, glass) | (image == slide.background).all(axis=-1)
    return _Overview(colours, empty, (low[0] / fused[0], low[1] / fused[1]))


def _low_level(slide: Slide, fused: int) -> int | None:
    """Return the finest level that is coarse enough and small enough to be read at once."""
    finest = slide.levels[fused].downsample[0]
    for level in range(fused + 1, len(slide.levels)):
        height, width = slide.levels[level].shape
        coarse = slide.levels[level].downsample[0] / finest >= _LEAST_DOWNSAMPLE
        if coarse and height * width <= _MOST_PIXELS:
            return level
    return None


def _glass(colours: UInt8Image) -> npt.NDArray[np.int16] | None:
    """Return the colour of empty glass: the median of what is bright and nearly grey, or None."""
    low, high = colours.min(axis=-1), colours.max(axis=-1)
    bright = colours[(low >= _DARKEST_GLASS) & (high - low <= _MOST_CHROMA)]
    return np.median(bright, axis=0).astype(np.int16) if len(bright) else None


def _near(image: UInt8Image, glass: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    near: npt.NDArray[np.bool_] = (np.abs(image - glass) <= TOLERANCE).all(axis=-1)
    return near


def _span(plan: FusionPlan, tile: Tile, overview: _Overview, axis: int) -> slice:
    """Return which low-level pixels a tile reads from, one more at each side included."""
    start = plan.grid.origin(tile)[axis]
    factor, size = overview.factor[axis], overview.empty.shape[axis]
    first = int(start // factor) - 1
    last = int(-(-(start + plan.grid.tile) // factor)) + 1
    return slice(min(max(first, 0), size - 1), max(min(last, size), 1))
