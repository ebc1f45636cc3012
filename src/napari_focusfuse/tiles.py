r"""Where tiles lie: a grid fixed to the slide, never to the request.  Pure geometry.

A tile is read as a whole, but only its active part carries weight.  Along either axis::

      origin                                                   origin + tile
      |<-margin->|<-ramp->|<------- plateau ------->|<-ramp->|<-margin->|
      |          |        .-------------------------.        |          |
      |   dead   |     .-'                           '-.     |   dead   |   weight of tile i
      |          |  .-'                                 '-.  |          |
      |----------|-'---------------------------------------'-|----------|
                 i*step                              (i+1)*step

    tile i            |_______/-----------\_______|
    tile i+1                        |_______/-----------\_______|
    weight sum                ----------------------------            step = tile - 2*margin - ramp

Tile ``i`` is read from ``start + i*step - margin`` and carries weight on ``[start + i*step,
start + (i+1)*step + ramp)``: 1, 2 ... ramp, then ramp + 1, then ramp ... 2, 1.  Where two tiles
meet their weights sum to ramp + 1, so integers do for everything.  Tiles of negative ``i`` are not
used: the first pixels belong to tile 0 alone, and the sum that weights are divided by is counted,
never assumed.  What a tile reads beyond the slide is the slide's own reflection, so a tile holds
the same pixels whoever asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ALIGNMENT = 8
"""Tile origins are multiples of this many pixels; methods that pool further ask for more."""


@dataclass(frozen=True)
class Tile:
    """One tile by its position in the grid."""

    row: int
    column: int


@dataclass(frozen=True)
class TileGrid:
    """Square tiles on a grid; see the drawing above.

    Raises
    ------
    ValueError
        If a size is no multiple of ``alignment``, or the margins and ramps leave no room.
    """

    tile: int
    """Side of a tile as it is read, in pixels."""
    margin: int
    """Pixels at each side that are read but carry no weight."""
    ramp: int
    """Pixels over which neighbours are blended; 0: none."""
    alignment: int = ALIGNMENT
    start: tuple[int, int] = (0, 0)
    """(y, x) of the grid's first tile; zero or less.  Only a check of the seams moves it."""

    def __post_init__(self) -> None:
        if any(size % self.alignment for size in (self.tile, self.margin, self.ramp, *self.start)):
            raise ValueError(f"{self}: every size must be a multiple of {self.alignment}")
        if self.margin < 0 or self.ramp < 0 or self.step < max(self.ramp, 1):
            raise ValueError(
                f"{self}: a tile must be larger than twice its margin plus twice its ramp"
            )
        if not all(-self.step < first <= 0 for first in self.start):
            raise ValueError(f"{self}: start must lie within one step before the slide")

    @property
    def step(self) -> int:
        """Distance between neighbouring tiles in pixels."""
        return self.tile - 2 * self.margin - self.ramp

    @property
    def active(self) -> int:
        """Side of the part of a tile that carries weight, in pixels."""
        return self.step + self.ramp

    def active_origin(self, tile: Tile) -> tuple[int, int]:
        """Return the (y, x) of the first pixel that carries weight."""
        return self.start[0] + tile.row * self.step, self.start[1] + tile.column * self.step

    def origin(self, tile: Tile) -> tuple[int, int]:
        """Return the (y, x) at which the tile is read; negative beyond the slide's edge."""
        y, x = self.active_origin(tile)
        return y - self.margin, x - self.margin

    def tiles_for(self, y: int, x: int, height: int, width: int) -> tuple[Tile, ...]:
        """Return every tile that carries weight in a rectangle, from its centre outward."""
        centre_y, centre_x = 2 * y + height, 2 * x + width

        def distance(tile: Tile) -> tuple[int, int, int]:
            top, left = self.active_origin(tile)
            down, right = 2 * top + self.active - centre_y, 2 * left + self.active - centre_x
            return down * down + right * right, tile.row, tile.column

        rows = self._indices(y, y + height, self.start[0])
        columns = self._indices(x, x + width, self.start[1])
        return tuple(
            sorted((Tile(row, column) for row in rows for column in columns), key=distance)
        )

    def _indices(self, first: int, stop: int, start: int) -> range:
        lowest = (first - start - self.active) // self.step + 1
        return range(max(lowest, 0), (stop - 1 - start) // self.step + 1)

    def weights(self) -> npt.NDArray[np.uint32]:
        """Return the weights of the active part along one axis; the tile's are their outer product.

        Returns
        -------
        (active,) uint32 array in [1, ramp + 1]
        """
        position = np.arange(self.active)
        edge = np.minimum(position, self.active - 1 - position) + 1
        weights: npt.NDArray[np.uint32] = np.minimum(edge, self.ramp + 1).astype(np.uint32)
        return weights


def reflect(start: int, length: int, size: int) -> npt.NDArray[np.intp]:
    """Return where the pixels of an axis come from if the slide is mirrored at its edges.

    Parameters
    ----------
    start, length
        The span asked for, in pixels of the slide; it may lie outside, by any amount.
    size
        The slide's side in pixels.

    Returns
    -------
    (length,) array of indices in [0, size); the edge pixel itself is not repeated.
    """
    period = max(2 * (size - 1), 1)
    folded = np.arange(start, start + length) % period
    return np.minimum(folded, period - folded).astype(np.intp) if size > 1 else folded * 0
