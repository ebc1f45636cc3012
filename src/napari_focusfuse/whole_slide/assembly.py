"""The finished files, from the spool: tiles are copied, the small levels made from kept pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from napari_focusfuse.pixels import halve
from napari_focusfuse.slide import Region
from napari_focusfuse.writer import OmeZarr, encode_tile, map_provenance, write_pyramid

from .blocks import Block, BlockGrid
from .job import IMAGE
from .journal import Journal
from .shares import Output, PartIndex, Pixels, unpack
from .worker import About


class Assembly:
    """Makes the files of a job whose blocks are all in the journal.

    No more is held in memory than a few tiles of each level: those of the small levels are made
    anew from the blocks' kept pixels each time, which are few.
    """

    def __init__(
        self, journal: Journal, outputs: Sequence[Output], grid: BlockGrid, about: About
    ) -> None:
        self._journal, self._outputs, self._grid, self._about = journal, outputs, grid, about
        self._index = PartIndex(outputs, grid)

    def write(self, output: Output) -> Iterator[float]:
        """Write one file, whole or not at all; yield which part of it is done, from 0 to 1.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if output.is_zarr:
            yield from self._write_zarr(output)
        else:
            self._write_tiff(output)
        yield 1.0

    def _write_tiff(self, output: Output) -> None:
        write_pyramid(
            output.path,
            output.spec,
            lambda level: self._tiles(output, level),
            mpp=self._about.mpp,
            provenance=self._provenance(output),
            name=_title(output),
            icc=self._icc(output),
        )

    def _write_zarr(self, output: Output) -> Iterator[float]:
        folder = OmeZarr(output.path, output.spec)
        try:
            folder.create(
                mpp=self._about.mpp,
                provenance=self._provenance(output),
                name=_title(output),
                icc=self._icc(output),
            )
            for level in range(len(output.spec.levels)):
                for part in folder.regions(level):
                    folder.write(level, part, self._pixels(output, level, part))
                yield (level + 1) / (len(output.spec.levels) + 1)
            folder.finish()
        finally:
            folder.discard()

    def _provenance(self, output: Output) -> dict[str, Any]:
        about = self._about.provenance
        return about if output.name == IMAGE else map_provenance(about, output.name)

    def _icc(self, output: Output) -> bytes | None:
        return self._about.icc if output.spec.samples == 3 else None

    def _tiles(self, output: Output, level: int) -> Iterator[bytes]:
        """Yield the encoded tiles of a level by rows."""
        rows, columns = output.spec.grid(level)
        if level in output.encoded(self._grid.side):
            for row in range(rows):
                for column in range(columns):
                    yield self._journal.read(*self._index.tile(output, level, row, column))
            return
        for part in output.spec.regions(level):
            yield encode_tile(self._pixels(output, level, part), output.spec)

    def _pixels(self, output: Output, level: int, part: Region) -> Pixels:
        """Return a part of a level whose pixels are kept, or made of a finer one's."""
        kept = output.kept(self._grid.side)
        if level in kept:
            return self._kept(output, level, part)
        tile = output.spec.tile
        pixels = np.empty((part.height, part.width, *output.spec.shape(level)[2:]), _type(output))
        # By quarters, so that on the way down to the kept level no more than a tile is held.
        half = max(tile // 2, 1)
        for y in range(part.y, part.stop_y, half):
            for x in range(part.x, part.stop_x, half):
                quarter = Region(y, x, min(half, part.stop_y - y), min(half, part.stop_x - x))
                finer = Region(2 * y, 2 * x, 2 * quarter.height, 2 * quarter.width)
                place = (slice(y - part.y, y - part.y + half), slice(x - part.x, x - part.x + half))
                pixels[place] = halve(self._pixels(output, level - 1, finer))
        return pixels

    def _kept(self, output: Output, level: int, part: Region) -> Pixels:
        pixels = np.empty((part.height, part.width, *output.spec.shape(level)[2:]), _type(output))
        side = self._grid.side >> level
        for row in range(part.y // side, -(-part.stop_y // side)):
            for column in range(part.x // side, -(-part.stop_x // side)):
                block = Block(row, column)
                share = self._grid.share(block, level, *output.spec.levels[level])
                packed = self._journal.read(block, self._index.pixels(output, block, level))
                shape = (share.height, share.width, *pixels.shape[2:])
                found = unpack(packed, shape, output.spec.dtype)
                top, left = max(share.y, part.y), max(share.x, part.x)
                bottom, right = min(share.stop_y, part.stop_y), min(share.stop_x, part.stop_x)
                pixels[top - part.y : bottom - part.y, left - part.x : right - part.x] = found[
                    top - share.y : bottom - share.y, left - share.x : right - share.x
                ]
        return pixels


def _title(output: Output) -> str:
    return output.path.name.partition(".ome.")[0]


def _type(output: Output) -> np.dtype[np.generic]:
    return np.dtype(output.spec.dtype)
