"""What a pyramid of tiles is made of: sizes and kinds, no pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_focusfuse.slide import Region

from .output import OutputError, OutputFormatError

COMPRESSIONS = ("jpeg", "zstd", "deflate")
TILE = 512


@dataclass(frozen=True)
class PyramidSpec:
    """A pyramid whose levels are halved until one tile holds the last.

    A pixel of a level is the mean of 2 x 2 of the level before (:func:`pixels.halve`); an odd last
    row or column is dropped.  Every level is cut into square tiles, counted by rows.

    Raises
    ------
    OutputFormatError
        If the compression is unknown.
    OutputError
        If the pixels are neither 8-bit RGB nor 8-bit or float32 grey, or JPEG is asked for what it
        would falsify: masks and maps are data, not pictures.
    """

    height: int
    width: int
    samples: Literal[1, 3] = 3
    dtype: Literal["uint8", "float32"] = "uint8"
    tile: int = TILE
    compression: str = "jpeg"
    """``"jpeg"`` (quality 90, 8-bit RGB only), or without loss ``"zstd"`` or ``"deflate"``."""

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise OutputFormatError(
                f"There is no compression {self.compression!r}; choose {', '.join(COMPRESSIONS)}."
            )
        kind = (self.samples, self.dtype)
        if kind not in ((3, "uint8"), (1, "uint8"), (1, "float32")) or min(self.levels[0]) < 1:
            raise OutputError(
                f"A pyramid cannot hold {self.width} x {self.height} pixels of {self.samples} "
                f"{self.dtype} values; give an 8-bit image, grey or RGB, or a float32 map."
            )
        if self.compression == "jpeg" and kind != (3, "uint8"):
            raise OutputError("JPEG would falsify a mask or map; choose zstd or deflate.")

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each level, level 0 first."""
        levels = [(self.height, self.width)]
        while max(levels[-1]) > self.tile and min(levels[-1]) > 1:
            levels.append((levels[-1][0] // 2, levels[-1][1] // 2))
        return tuple(levels)

    def grid(self, level: int) -> tuple[int, int]:
        """Return the (rows, columns) of tiles of a level."""
        height, width = self.levels[level]
        return -(-height // self.tile), -(-width // self.tile)

    def regions(self, level: int, side: int | None = None) -> Iterator[Region]:
        """Yield what each tile of a level shows, by rows, clipped to the level.

        With ``side``: each square of so many pixels instead of each tile.
        """
        height, width = self.levels[level]
        side = side or self.tile
        for y in range(0, height, side):
            for x in range(0, width, side):
                yield Region(y, x, side, side).clipped(height, width)

    def shape(self, level: int) -> tuple[int, ...]:
        """Return the array shape of a level: (Y, X), or (Y, X, 3)."""
        return self.levels[level] + ((3,) if self.samples == 3 else ())

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel before compression."""
        return self.samples * np.dtype(self.dtype).itemsize
