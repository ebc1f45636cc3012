"""Where patches lie on a slide: a grid of squares, those that hold cells, and what is held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import TypeVar

import numpy as np

from napari_focusfuse.slide import Region, Slide

from .masks import foreground

Item = TypeVar("Item")
Place = tuple[int, int]
"""(y, x) of a square's first pixel at level 0."""
Parts = dict[str, Region]
"""Regions of one slide by their use: ``"train"``, ``"validation"`` and perhaps ``"test"``."""

HELD_OUT = 0.15
"""Share of a single slide that validates, and the share that tests."""
_OVERVIEW_PX = 16
"""Fewest pixels on a square's side that show how much of it is cells."""
_ABREAST = 16
"""Squares of a row looked at in one read."""


def squares(area: Region, side: int, overlap: float) -> list[Place]:
    """Return squares that cover an area, row by row; the last of a row ends where the area ends.

    Parameters
    ----------
    side
        Of a square, in pixels.
    overlap
        Share of the side that neighbours have in common, 0 to below 1.
    """
    step = max(1, round(side * (1 - overlap)))
    columns = _starts(area.x, area.width, side, step)
    return [(y, x) for y in _starts(area.y, area.height, side, step) for x in columns]


def _starts(first: int, length: int, side: int, step: int) -> list[int]:
    if length < side:
        return []
    last = first + length - side
    return [*range(first, last, step), last]


def with_cells(slide: Slide, places: Iterable[Place], side: int, share: float) -> list[Place]:
    """Return the squares of which at least ``share`` is cells, in their order.

    Looked at in layer 0 of the coarsest stored level that leaves a square 16 pixels.
    """
    if share <= 0:
        return list(places)
    found: list[Place] = []
    for _, row in groupby(places, key=lambda place: place[0]):
        wanted = list(row)
        for first in range(0, len(wanted), _ABREAST):
            some = wanted[first : first + _ABREAST]
            shares = _shares(slide, some, side)
            found += [place for place, cells in zip(some, shares, strict=True) if cells >= share]
    return found


def _shares(slide: Slide, row: Sequence[Place], side: int) -> list[float]:
    """Return the share of cells in squares of one row, by a single read."""
    plane = slide.planes[slide.zero]
    level = max(
        index
        for index, level in enumerate(slide.levels)
        if index == 0
        or (side / max(level.downsample) >= _OVERVIEW_PX and slide.stored(plane, index))
    )
    down_y, down_x = slide.levels[level].downsample
    height, width = max(1, round(side / down_y)), max(1, round(side / down_x))
    lefts = [round(x / down_x) for _, x in row]
    span = lefts[-1] - lefts[0] + width
    band = slide.read_region(plane, level, round(row[0][0] / down_y), lefts[0], height, span)
    cells = foreground(band)
    return [float(cells[:, left - lefts[0] :][:, :width].mean()) for left in lefts]


def thinned(places: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Return at most ``count`` of a sequence, spread evenly over it, drawn by the seed."""
    if len(places) <= count:
        return list(places)
    rng = np.random.default_rng(seed)
    edges = np.linspace(0, len(places), count + 1).astype(int)
    return [places[int(rng.integers(low, high))] for low, high in pairwise(edges)]


def held_out(area: Region, side: int) -> list[Parts]:
    """Return the ways to cut bands off an area for validation and test, the best first.

    The bands are at least a square wide and overlap with nothing.  Where there is no room for
    three, nothing is kept for a test; where there is none for two, there is no way.
    """
    axes = (0, 1) if area.height >= area.width else (1, 0)
    found = []
    for axis in axes:
        length = (area.height, area.width)[axis]
        band = max(side, int(length * HELD_OUT))
        kept = ["test", "validation"] if length >= 2 * band + side else ["validation"]
        rest = length - band * len(kept)
        if rest < side:
            continue
        for at_end in (True, False):
            lengths = [(name, band) for name in kept]
            order = [("train", rest), *lengths[::-1]] if at_end else [*lengths, ("train", rest)]
            found.append(_bands(area, axis, order))
    return found


def _bands(area: Region, axis: int, lengths: Sequence[tuple[str, int]]) -> Parts:
    parts, start = {}, 0
    for name, length in lengths:
        parts[name] = (
            Region(area.y + start, area.x, length, area.width)
            if axis == 0
            else Region(area.y, area.x + start, area.height, length)
        )
        start += length
    return parts
