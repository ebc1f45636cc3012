"""A slide's pyramid level as a lazy array with a tile cache, for a viewer that slices arrays.

The viewer takes a window, then a plane, then asks for numbers; only the last step reads, and only
tiles that are not in the cache.
"""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .slide import MAX_REGION_PIXELS, FocalPlane, Region, RegionError, Slide, UInt8Image

TILE = 512
"""Side of a cached tile in pixels."""

CACHE_BYTES = 256 << 20
"""Default bound of a slide's cache: about 340 tiles, four times a 4k screen."""

TileKey = tuple[int, int, int, int]
"""Plane index, level, tile row, tile column."""


class TileCache:
    """Least recently used tiles, bounded in bytes; safe from several threads at once."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._tiles: OrderedDict[TileKey, UInt8Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: TileKey, read: Callable[[], UInt8Image]) -> UInt8Image:
        """Return the tile, calling ``read`` outside the lock if it is not held."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
        tile = read()
        tile.flags.writeable = False
        with self._lock:
            # Two threads may have read the same tile; the later one replaces an equal copy.
            replaced = self._tiles.pop(key, None)
            self.nbytes += tile.nbytes - (0 if replaced is None else replaced.nbytes)
            self._tiles[key] = tile
            while self.nbytes > self.max_bytes and len(self._tiles) > 1:
                self.nbytes -= self._tiles.popitem(last=False)[1].nbytes
        return tile


_ALL = slice(None)


@dataclass(frozen=True)
class IndexAxis:
    """One axis of an index: the contiguous part to read, and what NumPy does with it after."""

    start: int
    stop: int
    after: int | slice


def index_axis(key: object, size: int) -> IndexAxis:
    """Return what an index or slice takes of an axis of ``size``."""
    if isinstance(key, slice):
        wanted = range(size)[key]
        if not wanted:
            return IndexAxis(0, 0, _ALL)
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        after = _ALL if wanted.step == 1 else slice(None, None, wanted.step)
        return IndexAxis(low, high + 1, after)
    index = range(size)[operator.index(key)]  # type: ignore[arg-type]
    return IndexAxis(index, index + 1, 0)


class SlideArray:
    """A window of a stack of focal planes at one level; (Z, Y, X, 3) or (Y, X, 3) uint8.

    Indexing gives a smaller window and reads nothing; :func:`numpy.asarray` reads.

    Parameters
    ----------
    slide, level
        Where the pixels come from.
    cache
        Shared by all levels and planes of the slide.
    planes
        Focal planes along the first axis.
    flat
        Whether the array has no plane axis; ``planes`` then holds one plane.
    window
        The part of the level, or None for all of it.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        slide: Slide,
        level: int,
        cache: TileCache,
        planes: Sequence[FocalPlane],
        *,
        flat: bool = False,
        window: Region | None = None,
    ) -> None:
        self.slide = slide
        self.level = level
        self.cache = cache
        self.planes = tuple(planes)
        self.flat = flat
        self.window = window or Region(0, 0, *slide.levels[level].shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes; the last is 3."""
        image = (self.window.height, self.window.width, 3)
        return image if self.flat else (len(self.planes), *image)

    @property
    def ndim(self) -> int:
        """Number of axes, the colour included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.planes) * self.window.height * self.window.width * 3

    @property
    def nbytes(self) -> int:
        """Bytes the array would take in memory."""
        return self.size

    @property
    def chunks(self) -> tuple[int, ...]:
        """The tile shape as Zarr writes it; the viewer widens its windows to whole tiles."""
        return (TILE, TILE, 3) if self.flat else (1, TILE, TILE, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [_ALL] * (self.ndim - len(keys) + 1)
        if len(keys) > self.ndim:
            raise IndexError(f"{len(keys)} indices for an array of {self.ndim} axes.")
        keys += [_ALL] * (self.ndim - len(keys))
        chosen: Any = self.planes if self.flat else self.planes[keys.pop(0)]
        flat = self.flat or isinstance(chosen, FocalPlane)
        rows, columns = (
            index_axis(keys[0], self.window.height),
            index_axis(keys[1], self.window.width),
        )
        part = SlideArray(
            self.slide,
            self.level,
            self.cache,
            (chosen,) if isinstance(chosen, FocalPlane) else chosen,
            flat=flat,
            window=Region(
                self.window.y + rows.start,
                self.window.x + columns.start,
                rows.stop - rows.start,
                columns.stop - columns.start,
            ),
        )
        after = (rows.after, columns.after, keys[2])
        if after == (_ALL, _ALL, _ALL):
            return part
        return np.asarray(part)[after if flat else (_ALL, *after)]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        pixels = self.size // 3
        if pixels > MAX_REGION_PIXELS:
            raise RegionError(
                f"A window of {pixels / 1e6:,.0f} megapixels is too large to show at once (at most "
                f"{MAX_REGION_PIXELS >> 20}); unlock the layer's level, or zoom in."
            )
        if copy is False:
            raise ValueError("A slide is read from its file, so its pixels are always a copy.")
        out = np.empty((len(self.planes), self.window.height, self.window.width, 3), np.uint8)
        if out.size:
            for image, plane in zip(out, self.planes, strict=True):
                self._fill(image, plane)
        result = out[0] if self.flat else out
        return result if dtype is None else result.astype(dtype, copy=False)

    def _fill(self, image: UInt8Image, plane: FocalPlane) -> None:
        window = self.window
        for row in range(window.y // TILE, -(-window.stop_y // TILE)):
            for column in range(window.x // TILE, -(-window.stop_x // TILE)):
                tile = self._tile(plane, row, column)
                y, x = row * TILE, column * TILE
                part = Region(y, x, *tile.shape[:2])
                top, left = max(part.y, window.y), max(part.x, window.x)
                bottom, right = min(part.stop_y, window.stop_y), min(part.stop_x, window.stop_x)
                image[top - window.y : bottom - window.y, left - window.x : right - window.x] = (
                    tile[top - y : bottom - y, left - x : right - x]
                )

    def _tile(self, plane: FocalPlane, row: int, column: int) -> UInt8Image:
        height, width = self.slide.levels[self.level].shape
        part = Region(row * TILE, column * TILE, TILE, TILE).clipped(height, width)

        def read() -> UInt8Image:
            return self.slide.read_region(
                plane, self.level, part.y, part.x, part.height, part.width
            )

        return self.cache.get((plane.index, self.level, row, column), read)
