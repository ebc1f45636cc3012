"""A whole slide against its reference, tile by tile: memory does not grow with the slide.

The scores are those of :func:`napari_focusfuse.comparison.compare` at shift (0, 0), not estimates.
"""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_focusfuse.comparison import MIN_COMMON, ComparisonError, told_output
from napari_focusfuse.metrics import VARIANTS
from napari_focusfuse.placement import Placement
from napari_focusfuse.running_score import (
    PartScore,
    RunningScore,
    parts,
    score_part,
    widened,
)
from napari_focusfuse.slide import FocalPlane, Region, Slide, UInt8Image

TILE = 512
"""Side of a scored tile in pixels."""


@dataclass(frozen=True)
class Shown:
    """A rectangle of one plane of an open slide, at one level."""

    slide: Slide
    plane: FocalPlane
    level: int
    region: Region
    name: str
    """What the user calls it."""

    @classmethod
    def whole(cls, slide: Slide, plane: FocalPlane, level: int = 0) -> Shown:
        """Return all of a level."""
        return cls(slide, plane, level, Region(0, 0, *slide.levels[level].shape), slide.path.name)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.region.height, self.region.width

    def read(self, part: Region) -> UInt8Image:
        """Return the (Y, X, 3) uint8 pixels of a part of the rectangle."""
        y, x = self.region.y + part.y, self.region.x + part.x
        return self.slide.read_region(self.plane, self.level, y, x, part.height, part.width)

    def on(self, plane: FocalPlane) -> Shown:
        """Return the same place on another plane."""
        return Shown(self.slide, plane, self.level, self.region, self.name)


@dataclass(frozen=True)
class ScoredTile:
    """How alike two slides are in one tile."""

    part: Region
    """In pixels of the compared image."""
    scores: Mapping[str, float]
    """SSIM-paper, CC and PSNR."""


@dataclass(frozen=True)
class SlideComparison:
    """How alike two slides are, in all and tile by tile."""

    image: Shown
    reference: Shown
    scores: Mapping[str, float]
    """One figure for each of :data:`napari_focusfuse.metrics.VARIANTS`."""
    tiles: tuple[ScoredTile, ...] = field(repr=False)
    """By rows."""
    variants: Mapping[str, str] = field(default_factory=lambda: VARIANTS, repr=False)
    """What each score stands for."""

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) pixels that were compared."""
        return self.image.shape

    def ssim_map(self) -> npt.NDArray[np.float64]:
        """Return the (rows, columns) SSIM-paper of the tiles; NaN where a tile has none."""
        columns = -(-self.shape[1] // TILE)
        return np.array([tile.scores["SSIM-paper"] for tile in self.tiles]).reshape(-1, columns)

    def to_csv(self, path: Path) -> None:
        """Write a line for each tile; places are in pixels of the image.

        Raises
        ------
        ComparisonOutputError
            If the file cannot be written.
        """
        with told_output(path), path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["y", "x", "height", "width", *self.tiles[0].scores])
            for tile in self.tiles:
                place = tile.part
                sides = (place.y, place.x, place.height, place.width)
                writer.writerow([*sides, *tile.scores.values()])


def lay_over(
    image: Shown, reference: Shown, provenance: Mapping[str, object] | None = None
) -> tuple[Shown, Shown]:
    """Return both where they show the same place, pixel by pixel.

    Parameters
    ----------
    image, reference
        All of both.
    provenance
        The image's; one that was fused from a region or a coarser level of the reference is laid
        over just that.

    Raises
    ------
    ComparisonError
        If they differ in size, or are too small.
    """
    placement = Placement.noted(provenance or {})
    own = provenance is not None and provenance.get("source") == reference.slide.path.name
    if own and placement is not None:
        for number, level in enumerate(reference.slide.levels):
            region = Region(*placement.origin, *image.shape)
            if level.downsample == placement.downsample and region == region.clipped(*level.shape):
                reference = Shown(reference.slide, reference.plane, number, region, reference.name)
    sizes = [f"{shown.shape[1]} x {shown.shape[0]}" for shown in (image, reference)]
    if image.shape != reference.shape:
        raise ComparisonError(
            f"{image.name} has {sizes[0]} pixels and {reference.name} {sizes[1]}; add --register "
            "to compare what both show."
        )
    if min(image.shape) < MIN_COMMON:
        raise ComparisonError(
            f"{image.name} has {sizes[0]} pixels and at least {MIN_COMMON} on each side are needed."
        )
    return image, reference


def compare_slides(
    image: Shown, reference: Shown, *, threads: int | None = None
) -> Generator[tuple[int, int], None, SlideComparison]:
    """Score an image against a reference of the same size, tile by tile.

    Parameters
    ----------
    image, reference
        As :func:`lay_over` returns them.
    threads
        How many tiles are read and scored at once; None: one for each processor, at most 8.  The
        scores do not depend on it.

    Yields
    ------
    (tiles done, tiles in all); the generator's return value is the :class:`SlideComparison`.

    Raises
    ------
    SlideError
        If one of them is damaged somewhere.
    """
    places = list(parts(*image.shape, TILE))
    running = RunningScore()
    tiles: list[ScoredTile] = []

    def score(part: Region) -> PartScore:
        wide = widened(part, *image.shape)
        return score_part(part, image.shape, image.read(wide), reference.read(wide))

    workers = threads or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for tile in _in_order(pool, score, places, 2 * workers):
            running.add(tile)
            tiles.append(ScoredTile(tile.part, tile.scores()))
            yield len(tiles), len(places)
    return SlideComparison(image, reference, running.scores(), tuple(tiles))


def _in_order(
    pool: ThreadPoolExecutor, score: Callable[[Region], PartScore], places: list[Region], ahead: int
) -> Iterator[PartScore]:
    """Yield the scores in the order of the places, never more than ``ahead`` of them waiting."""
    waiting: deque[Future[PartScore]] = deque()
    try:
        for place in places:
            waiting.append(pool.submit(score, place))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
