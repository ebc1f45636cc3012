"""Weighted integer sums of tiles, and the picture and maps they amount to.

Integers, because their sums do not depend on the order of the tiles nor on who added them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import Region, UInt8Image
from napari_focusfuse.tiles import Tile, TileGrid

from .method import Float32Image, MapInfo

SCALE = 65535
"""Steps of 1 in which sums are kept; 257 to each step of uint8."""

_BAND = 512

Maps = Mapping[str, npt.NDArray[Any]]
"""Name -> (Y, X) map: uint8, 0 to 255 for 0 to 1, or float32 in the unit where it has one."""


class Canvas:
    """A region that tiles are added to, in any order.

    Parameters
    ----------
    grid
        Where the tiles lie.
    region
        In pixels of the level.
    maps
        What the channels after red, green and blue mean.
    """

    def __init__(self, grid: TileGrid, region: Region, maps: Sequence[MapInfo] = ()) -> None:
        self._grid, self._region, self._maps = grid, region, tuple(maps)
        shape = region.height, region.width
        self._sums = np.zeros((*shape, 3 + len(self._maps)), np.uint32)
        self._weights = np.zeros((*shape, 1), np.uint32)
        weights = grid.weights()
        self._tile_weights = np.multiply.outer(weights, weights)[..., None]

    def add(self, tile: Tile, values: Float32Image) -> Region:
        """Add a tile's (tile, tile, 3 + maps) values; return what part of the region it touched."""
        y, x = self._grid.active_origin(tile)
        touched = _overlap(Region(y, x, self._grid.active, self._grid.active), self._region)
        margin = self._grid.margin
        in_tile = _slices(touched, y - margin, x - margin)
        scaled = values[in_tile] * np.float32(SCALE)
        steps = np.rint(scaled, out=scaled).astype(np.uint32)
        weights = self._tile_weights[_slices(touched, y, x)]
        if self._grid.ramp:
            steps *= weights
        place = _slices(touched, self._region.y, self._region.x)
        self._sums[place] += steps
        self._weights[place] += weights
        return touched

    def picture(self, region: Region) -> tuple[UInt8Image, dict[str, npt.NDArray[Any]]]:
        """Return the (Y, X, 3) image and the (Y, X) maps of a part as they are by now.

        Where no tile was added yet both are 0.
        """
        shape = region.height, region.width
        image = np.empty((*shape, 3), np.uint8)
        maps = {
            info.name: np.empty(shape, np.uint8 if info.unit is None else np.float32)
            for info in self._maps
        }
        # By bands, so that what the division needs in between stays small.
        for top in range(region.y, region.stop_y, _BAND):
            band = Region(top, region.x, min(_BAND, region.stop_y - top), region.width)
            place = _slices(band, self._region.y, self._region.x)
            rows = slice(top - region.y, band.stop_y - region.y)
            sums, weights = self._sums[place], self._divisors(place)
            image[rows] = _to_bytes(sums[..., :3], weights)
            for channel, info in enumerate(self._maps, start=3):
                maps[info.name][rows] = _to_map(sums[..., channel], weights[..., 0], info)
        return image, maps

    def _divisors(self, place: tuple[slice, slice]) -> npt.NDArray[np.uint32]:
        """Return the weights at a place; without a ramp one for all, by which division is fast."""
        if self._grid.ramp == 0:
            return np.ones((1, 1, 1), np.uint32)
        return np.maximum(self._weights[place], 1)


def _to_bytes(sums: npt.NDArray[np.uint32], weights: npt.NDArray[np.uint32]) -> UInt8Image:
    """Divide in integers, rounded to nearest."""
    divisor = weights * (SCALE // 255)
    image: UInt8Image = ((sums + divisor // 2) // divisor).astype(np.uint8)
    return image


def _to_map(
    sums: npt.NDArray[np.uint32], weights: npt.NDArray[np.uint32], info: MapInfo
) -> npt.NDArray[Any]:
    if info.unit is None:
        return _to_bytes(sums, weights)
    steps = (sums + weights // 2) // weights
    return (info.low + steps * ((info.high - info.low) / SCALE)).astype(np.float32)


def _overlap(first: Region, second: Region) -> Region:
    y, x = max(first.y, second.y), max(first.x, second.x)
    stop_y, stop_x = min(first.stop_y, second.stop_y), min(first.stop_x, second.stop_x)
    return Region(y, x, stop_y - y, stop_x - x)


def _slices(region: Region, y: int, x: int) -> tuple[slice, slice]:
    """Return where a region lies in an array whose first pixel is (y, x)."""
    rows = slice(region.y - y, region.stop_y - y)
    return rows, slice(region.x - x, region.stop_x - x)
