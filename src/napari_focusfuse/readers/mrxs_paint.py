"""Laying tiles on a canvas, at whole pixels or between them, with the rounding of OpenSlide.

The outermost pixels of a tile that lies between pixels are partly transparent, and those of two
tiles that meet add up to one, so that no seam shows.  OpenSlide draws through cairo, which lays
the topmost tile first, adds ("saturate") and cuts ``256 v`` off for a value ``v`` of 0 to 1; a part
of a tile is cut out in another way, with weights of 7 bits and ``255 v`` cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import UInt8Image

_ONE = 256
"""Weights along an axis are in 1/256."""


@dataclass(frozen=True)
class Tile:
    """What is laid."""

    colour: UInt8Image
    """(Y, X, 3), times alpha."""
    alpha: npt.NDArray[np.uint8] | None = None
    """(Y, X), or None if all of it is opaque."""

    def part(self, top: float, left: float, height: float, width: float) -> Tile:
        """Cut out a part of an opaque tile; it may begin and end between pixels."""
        if all(float(side).is_integer() for side in (top, left, height, width)):
            y, x = int(top), int(left)
            return Tile(self.colour[y : y + int(height), x : x + int(width)])
        size = (math.ceil(height), math.ceil(width))
        shifted = _Shifted.of(self, -top, -left, size, bits=7)
        colour = np.zeros((*size, 3), dtype=np.uint8)
        alpha = np.zeros(size, dtype=np.uint8)
        if shifted is not None:
            window = shifted.y.target, shifted.x.target
            colour[window], alpha[window] = shifted.colour() >> 16, shifted.alpha() >> 16
        return Tile(colour, alpha)


class Canvas:
    """A picture in the making.

    Parameters
    ----------
    height, width
        Size in pixels.
    background
        (red, green, blue) where nothing is laid.
    mixed
        Whether tiles may lie between pixels, so that transparency has to be kept.
    """

    def __init__(
        self, height: int, width: int, background: tuple[int, int, int], *, mixed: bool
    ) -> None:
        self._background = background
        self._colour = np.empty((height, width, 3), dtype=np.uint8)
        self._alpha = np.zeros((height, width), dtype=np.uint8) if mixed else None
        self._colour[:1] = (0, 0, 0) if mixed else background
        self._colour[1:] = self._colour[:1]  # whole rows are copied fastest

    @property
    def topmost_first(self) -> bool:
        """Whether :meth:`lay` puts tiles under those that are there, or over them."""
        return self._alpha is not None

    def lay(self, tile: Tile, top: float, left: float) -> None:
        """Lay a tile at a place; parts may lie outside."""
        if self._alpha is None:
            self._copy(tile.colour, int(top), int(left))
            return
        shifted = _Shifted.of(tile, top, left, self._colour.shape[:2])
        if shifted is not None:
            window = shifted.y.target, shifted.x.target
            _lay_under(self._colour[window], self._alpha[window], shifted)

    def _copy(self, colour: UInt8Image, y: int, x: int) -> None:
        (height, width), (limit_y, limit_x) = colour.shape[:2], self._colour.shape[:2]
        top, left = max(y, 0), max(x, 0)
        stop_y, stop_x = min(y + height, limit_y), min(x + width, limit_x)
        if top < stop_y and left < stop_x:
            part = colour[top - y : stop_y - y, left - x : stop_x - x]
            self._colour[top:stop_y, left:stop_x] = part

    def finish(self) -> UInt8Image:
        """Return the picture over the background."""
        if self._alpha is None or bool((self._alpha == 255).all()):
            return self._colour
        clear = (255 - self._alpha)[..., None].astype(np.uint16)
        behind = (clear * np.array(self._background, np.uint16) + 127) // 255
        filled: UInt8Image = np.minimum(self._colour + behind, 255).astype(np.uint8)
        return filled

    def alpha(self) -> npt.NDArray[np.uint8]:
        """Return (Y, X) uint8: 255 where tiles lie, 0 where none does."""
        if self._alpha is None:
            raise ValueError("This canvas keeps no transparency.")
        return self._alpha


@dataclass(frozen=True)
class _Axis:
    """Along one axis: which pixels of a tile are needed, where they go, and how far between."""

    source: slice
    target: slice
    skipped: int
    """Shifted pixels before the target: 1 where the tile's first pixel lies outside."""
    weight: int
    """Of the earlier of two neighbours in 1/256; 0 for whole pixels."""

    @classmethod
    def of(cls, place: float, size: int, limit: int, bits: int) -> _Axis | None:
        whole = math.floor(place)
        weight = _ONE - int((1 - (place - whole)) * (1 << bits)) * (_ONE >> bits)
        first, last = max(whole, 0), min(whole + size + (weight > 0), limit)
        if first >= last:
            return None
        start = max(first - whole - (weight > 0), 0)
        stop = min(last - whole, size)
        return cls(slice(start, stop), slice(first, last), first - whole - start, weight)


@dataclass(frozen=True)
class _Shifted:
    """The part of a tile that lies on a canvas; sums of products of weights, 65536 for one."""

    tile: Tile
    y: _Axis
    x: _Axis

    @classmethod
    def of(
        cls, tile: Tile, top: float, left: float, size: tuple[int, ...], bits: int = 8
    ) -> _Shifted | None:
        height, width = tile.colour.shape[:2]
        y, x = _Axis.of(top, height, size[0], bits), _Axis.of(left, width, size[1], bits)
        if y is None or x is None:
            return None
        alpha = None if tile.alpha is None else tile.alpha[y.source, x.source]
        return cls(Tile(tile.colour[y.source, x.source], alpha), y, x)

    @property
    def is_whole(self) -> bool:
        """Whether pixels of the tile are pixels of the canvas, all opaque."""
        return self.y.weight == 0 and self.x.weight == 0 and self.tile.alpha is None

    def colour(self) -> npt.NDArray[np.uint32]:
        """Return (Y, X, 3) colours times alpha."""
        return self._between(self.tile.colour)

    def alpha(self) -> npt.NDArray[np.uint32]:
        """Return (Y, X); of an opaque tile it is the product of a column and a row."""
        if self.tile.alpha is not None:
            return self._between(self.tile.alpha)
        height, width = self.tile.colour.shape[:2]
        column = _between(np.full((height, 1), 255, np.uint8), self.y, 0, np.uint16)
        row = _between(np.ones((1, width), np.uint8), self.x, 1, np.uint32)
        return np.asarray(column * row)

    def _between(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        return _between(_between(values, self.y, 0, np.uint16), self.x, 1, np.uint32)


def _between(
    pixels: npt.NDArray[Any], axis: _Axis, along: int, dtype: type[np.unsignedinteger[Any]]
) -> npt.NDArray[Any]:
    """Return the weighted sums (of 256) of neighbours along an axis, zero outside the tile."""
    wide = pixels.swapaxes(0, along)
    count = wide.shape[0]
    total = np.zeros((count + 1, *wide.shape[1:]), dtype=dtype)
    np.multiply(wide, dtype(_ONE - axis.weight), out=total[:count])
    if axis.weight:
        total[1:] += np.multiply(wide, dtype(axis.weight), dtype=dtype)
    size = axis.target.stop - axis.target.start
    return total[axis.skipped : axis.skipped + size].swapaxes(0, along)


def _lay_under(colour: UInt8Image, alpha: npt.NDArray[np.uint8], shifted: _Shifted) -> None:
    """Lay a tile under what is there, in place: of its alpha, as much as there is room for."""
    if shifted.is_whole:
        new, new_alpha = shifted.tile.colour, None
        summed = None
    else:
        summed, new_alpha = shifted.colour(), shifted.alpha()
        new = np.minimum(summed // _CUT, 255).astype(np.uint8)
    partly = np.nonzero((alpha > 0) & (alpha < 255))
    old_colour, old = colour[partly].astype(np.float32), alpha[partly].astype(np.float32)
    free = alpha == 0
    if free.all():
        colour[:] = new
    else:
        np.copyto(colour, new, where=free[..., None])
    if new_alpha is None:
        alpha[free] = 255
    else:
        np.copyto(alpha, np.minimum(new_alpha // _CUT, 255).astype(np.uint8), where=free)
    if len(old):
        added = np.full(old.shape, 255.0) if new_alpha is None else new_alpha[partly] / 65536
        light = new[partly].astype(np.float64) if summed is None else summed[partly] / 65536
        share = np.minimum((255 - old) / np.maximum(added, 1e-6), 1)
        mixed = (old_colour + light * share[:, None]) * (_ONE / 255)
        colour[partly] = np.minimum(mixed + 1e-4, 255).astype(np.uint8)
        total = (old + added * share) * (_ONE / 255)
        alpha[partly] = np.minimum(total + 1e-4, 255).astype(np.uint8)


_CUT = 65280
"""Divides 255 * 65536 to 256, which stands for 255: how pixman cuts fractions to 8 bits."""
