"""How a region is cut into blocks of work: pure geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from napari_focusfuse.slide import Region
from napari_focusfuse.writer import PyramidSpec


@dataclass(frozen=True)
class Block:
    """One block by its position."""

    row: int
    column: int


@dataclass(frozen=True)
class BlockGrid:
    """Squares from the top left of a region, the last of a row or column smaller.

    Every pixel of the result belongs to one block.
    """

    region: Region
    """In pixels of the level."""
    side: int

    @property
    def rows(self) -> int:
        """Number of blocks from top to bottom."""
        return -(-self.region.height // self.side)

    @property
    def columns(self) -> int:
        """Number of blocks from left to right."""
        return -(-self.region.width // self.side)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Block]:
        for row in range(self.rows):
            for column in range(self.columns):
                yield Block(row, column)

    def __contains__(self, block: object) -> bool:
        return (
            isinstance(block, Block)
            and 0 <= block.row < self.rows
            and 0 <= block.column < self.columns
        )

    def region_of(self, block: Block) -> Region:
        """Return where a block lies, in pixels of the slide's level."""
        part = self.share(block, 0, self.region.height, self.region.width)
        return Region(self.region.y + part.y, self.region.x + part.x, part.height, part.width)

    def share(self, block: Block, level: int, height: int, width: int) -> Region:
        """Return a block's share of a level of the result, whose size is given."""
        side = self.side >> level
        return Region(block.row * side, block.column * side, side, side).clipped(height, width)


def own_levels(spec: PyramidSpec, side: int) -> int:
    """Return of how many levels a block's share consists of whole tiles of the file."""
    count = 1
    while count < len(spec.levels) and (side >> count) % spec.tile == 0 and side >> count:
        count += 1
    return count
