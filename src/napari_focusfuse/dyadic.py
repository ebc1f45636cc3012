"""A pyramid that halves at every level, whatever the file stores.

Viewers pick the level nearest to the screen: where a file jumps by four, up to sixteen times the
pixels needed are read.  Missing levels are averaged from the next finer stored one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .pixels import halve
from .slide import FocalPlane, Level, Region, Slide, UInt8Image

COARSEST = 512
"""Longest side of the last level: one tile, which the viewer reads at every step in z."""

PIECE = 4096
"""Longest side of what is read of a finer level at once: 16 megapixels."""


class DyadicSlide(Slide):
    """A slide whose level ``n`` is level 0 divided by ``2**n``, remainders dropped.

    A stored level of that size is passed on as it is; any other is the mean of 2 x 2 pixels,
    ``(sum + 2) // 4`` each, of the level before, starting from the next finer stored level.

    Parameters
    ----------
    slide
        The slide as stored; closing this object closes it.
    """

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        """The slide as stored."""
        self.format = slide.format
        full = slide.levels[0].shape
        shapes = list(_halved_shapes(full))
        self._stored = {
            depth: found
            for depth, shape in enumerate(shapes)
            if (found := _stored_level(slide, shape, depth)) is not None
        }
        super().__init__(
            slide.path,
            planes=slide.planes,
            levels=[
                Level(width, height, (float(1 << depth), float(1 << depth)))
                for depth, (height, width) in enumerate(shapes)
            ],
            zero=slide.zero,
            extended=slide.extended,
            mpp=slide.mpp,
            objective=slide.objective,
            background=slide.background,
            properties=slide.properties,
            warnings=slide.warnings,
            not_shown=slide.not_shown,
            icc_profile=slide.icc_profile,
        )

    @property
    def bounds(self) -> Region:
        """The scanned part of level 0."""
        return self.slide.bounds

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail of the file."""
        return self.slide.associated

    @property
    def registration(self) -> Sequence[Mapping[str, object]]:
        """How each plane is moved as it is read."""
        return self.slide.registration

    def stored(self, plane: FocalPlane, level: int) -> bool:
        """Tell whether the file itself holds this plane at this level."""
        return self._source(plane, level)[1] == 0

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return the tile of the file, or of an averaged level 512 x 512."""
        if level in self._stored:
            return self.slide.tile_hint(self._stored[level])
        return super().tile_hint(level)

    def close(self) -> None:
        """Close the slide as stored."""
        self.slide.close()

    def _source(self, plane: FocalPlane, level: int) -> tuple[int, int]:
        """Return the stored level to start from and how often it is to be halved."""
        for depth in range(level, 0, -1):
            if depth in self._stored and self.slide.stored(plane, self._stored[depth]):
                return self._stored[depth], level - depth
        return 0, level

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        source, halvings = self._source(plane, level)
        out = np.empty((region.height, region.width, 3), dtype=np.uint8)
        side = max(1, PIECE >> halvings)
        for y in range(region.y, region.stop_y, side):
            for x in range(region.x, region.stop_x, side):
                height, width = min(side, region.stop_y - y), min(side, region.stop_x - x)
                finer = (edge << halvings for edge in (y, x, height, width))
                piece = self.slide.read_region(plane, source, *finer)
                for _ in range(halvings):
                    piece = halve(piece)
                rows = slice(y - region.y, y - region.y + height)
                out[rows, x - region.x : x - region.x + width] = piece
        return out


def _halved_shapes(full: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield (height, width) of every level, until the longest side is at most ``COARSEST``."""
    height, width = full
    yield height, width
    while max(height, width) > COARSEST and min(height, width) > 1:
        height, width = height // 2, width // 2
        yield height, width


def _stored_level(slide: Slide, shape: tuple[int, int], depth: int) -> int | None:
    """Return the stored level of this size; files round odd sides up or down."""
    full = slide.levels[0].shape
    for index, level in enumerate(slide.levels):
        sides = zip(level.shape, full, shape, strict=True)
        if all(stored in (floor, -(-side >> depth)) for stored, side, floor in sides):
            return index
    return None
