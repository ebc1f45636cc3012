"""What a block gives to each output: encoded tiles, and pixels for the levels above them.

Of an OME-TIFF a block encodes its tiles of every level of which it has whole ones.  Of the next
level, whose tiles belong to several blocks, it keeps the pixels, packed without loss.  Of an
OME-Zarr it keeps the pixels of all its levels: whoever puts the file together writes the shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.pixels import halve
from napari_focusfuse.slide import Region
from napari_focusfuse.writer import PyramidSpec, encode_tile

from .blocks import Block, BlockGrid, own_levels

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Output:
    """One file of a job."""

    name: str
    """``"image"``, or the name of a map."""
    path: Path
    spec: PyramidSpec

    @property
    def is_zarr(self) -> bool:
        """Whether it is a folder of shards, else a TIFF."""
        return self.path.name.lower().endswith(".ome.zarr")

    def kept(self, side: int) -> range:
        """Return the levels of which a block of some side keeps its pixels."""
        own = own_levels(self.spec, side)
        first = 0 if self.is_zarr else own
        return range(first, min(own + 1, len(self.spec.levels)))

    def encoded(self, side: int) -> range:
        """Return the levels of which a block of some side encodes its tiles."""
        return range(0 if self.is_zarr else own_levels(self.spec, side))


def make_parts(output: Output, grid: BlockGrid, block: Block, pixels: Pixels) -> list[bytes]:
    """Return what a block gives to an output, in the order that :class:`PartIndex` knows.

    Parameters
    ----------
    pixels
        The finished (Y, X, 3) or (Y, X) pixels of the block.
    """
    parts = []
    encoded, kept = output.encoded(grid.side), output.kept(grid.side)
    for level in range(max(encoded.stop, kept.stop)):
        if level:
            pixels = halve(pixels)
        if level in encoded:
            parts += [encode_tile(tile, output.spec) for tile in _tiles(pixels, output.spec.tile)]
        if level in kept:
            parts.append(pack(pixels))
    return parts


class PartIndex:
    """Where among a block's parts is what."""

    def __init__(self, outputs: Sequence[Output], grid: BlockGrid) -> None:
        self._outputs, self._grid = tuple(outputs), grid

    def tile(self, output: Output, level: int, row: int, column: int) -> tuple[Block, int]:
        """Return the block that encoded a tile, and which part of it that is."""
        in_block = (self._grid.side >> level) // output.spec.tile
        block = Block(row // in_block, column // in_block)
        across = -(-self._share(output, block, level).width // output.spec.tile)
        place = (row % in_block) * across + column % in_block
        return block, self._first(output, block, level) + place

    def pixels(self, output: Output, block: Block, level: int) -> int:
        """Return which part holds a block's packed pixels of a level."""
        return self._first(output, block, level) + self._tiles(output, block, level)

    def count(self, block: Block) -> int:
        """Return how many parts a block has."""
        return sum(self._count(output, block) for output in self._outputs)

    def _first(self, output: Output, block: Block, level: int) -> int:
        before = self._outputs[: self._outputs.index(output)]
        start = sum(self._count(other, block) for other in before)
        return start + sum(self._at(output, block, finer) for finer in range(level))

    def _count(self, output: Output, block: Block) -> int:
        return sum(self._at(output, block, level) for level in range(len(output.spec.levels)))

    def _at(self, output: Output, block: Block, level: int) -> int:
        return self._tiles(output, block, level) + (level in output.kept(self._grid.side))

    def _tiles(self, output: Output, block: Block, level: int) -> int:
        if level not in output.encoded(self._grid.side):
            return 0
        share, tile = self._share(output, block, level), output.spec.tile
        return -(-share.height // tile) * -(-share.width // tile)

    def _share(self, output: Output, block: Block, level: int) -> Region:
        return self._grid.share(block, level, *output.spec.levels[level])


def pack(pixels: Pixels) -> bytes:
    """Compress an array without loss; the same array gives the same bytes."""
    import imagecodecs

    return bytes(imagecodecs.zstd_encode(np.ascontiguousarray(pixels).tobytes(), level=1))


def unpack(packed: bytes, shape: tuple[int, ...], dtype: str) -> Pixels:
    """Return the array of a shape and type that was packed."""
    import imagecodecs

    return np.frombuffer(imagecodecs.zstd_decode(packed), dtype).reshape(shape)


def _tiles(pixels: Pixels, side: int) -> Iterator[Pixels]:
    for y in range(0, pixels.shape[0], side):
        for x in range(0, pixels.shape[1], side):
            yield pixels[y : y + side, x : x + side]
