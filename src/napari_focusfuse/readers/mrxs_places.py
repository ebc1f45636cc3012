"""Where the images of a MIRAX slide lie: photos of the camera overlap, each cut into images.

Level 0 lies on whole pixels.  Above it an image is made of images that were halved and joined
without regard to overlap; as soon as it holds more than one photo it is cut again, and the parts
lie at fractions of a pixel (checked against OpenSlide pixel by pixel).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import Region

from .faults import damaged
from .mrxs_index import Index
from .mrxs_structure import Structure, Zoom

_POSITION = np.dtype([("flag", "u1"), ("x", "<i4"), ("y", "<i4")])
_RAW, _PACKED, _HARDWARE = (
    "VIMSLIDE_POSITION_BUFFER",
    "StitchingIntensityLayer",
    "StitchingLayerForHWCoord",
)

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tiles:
    """Parts of images, in the order in which they are laid on each other; arrays of one length."""

    image: Integers
    """Number of the image in the index."""
    part: Integers
    """(n, 2): row and column of the part in its image."""
    place: npt.NDArray[np.float64]
    """(n, 2): top and left in pixels of the level."""
    photo: Integers
    """Number of the photo at its top left."""

    def chosen(self, keep: Integers) -> Tiles:
        """Return the tiles of these numbers, in this order."""
        return Tiles(self.image[keep], self.part[keep], self.place[keep], self.photo[keep])


class Places(Protocol):
    """Tells which tiles a region needs."""

    def parts(self, zoom: int) -> int:
        """Return into how many parts per side an image of a level is cut."""
        ...

    def tiles(self, zoom: int, region: Region) -> Tiles:
        """Return the tiles under a region of a level, in the order of images."""
        ...

    def taken(
        self, zoom: int, tiles: Tiles, photos: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return which tiles show a photo that was taken, ``photos`` being (rows, columns)."""
        ...

    def corners(self, image: Integers) -> npt.NDArray[np.float64]:
        """Return (n, 2): top and left of images of zoom 0, without photos of unknown place."""
        ...


class Grid:
    """Images edge to edge: no table of positions, and no overlap."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure

    def parts(self, zoom: int) -> int:
        """Return 1: no image needs to be cut."""
        return 1

    def tiles(self, zoom: int, region: Region) -> Tiles:
        """Return the tiles under a region of a level, in the order of images."""
        level, (rows, columns) = self._structure.zooms[zoom], self._structure.images
        height, width = level.tile
        down = np.arange(region.y // height, -(-region.stop_y // height), dtype=np.int64)
        right = np.arange(region.x // width, -(-region.stop_x // width), dtype=np.int64)
        down = down[down * level.concat < rows]
        right = right[right * level.concat < columns]
        grid = np.stack(np.meshgrid(down, right, indexing="ij"), axis=-1).reshape(-1, 2)
        y, x = grid.T * level.concat
        side = self._structure.divisions
        photo = y // side * self._structure.photos[1] + x // side
        return Tiles(
            y * columns + x, np.zeros_like(grid), (grid * level.tile).astype(np.float64), photo
        )

    def taken(
        self, zoom: int, tiles: Tiles, photos: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return which tiles show a photo that was taken; an image may hold many."""
        count = max(1, self._structure.zooms[zoom].concat // self._structure.divisions)
        for axis in (0, 1):
            starts = np.arange(0, photos.shape[axis], count)
            photos = np.logical_or.reduceat(photos, starts, axis=axis)
        row, column = np.divmod(tiles.photo, self._structure.photos[1])
        return np.asarray(photos[row // count, column // count])

    def corners(self, image: Integers) -> npt.NDArray[np.float64]:
        """Return (n, 2): top and left of images of zoom 0."""
        zoom = self._structure.zooms[0]
        place = np.stack(np.divmod(image, self._structure.images[1]), axis=1)
        return np.asarray(place // zoom.concat * zoom.tile, dtype=np.float64)


class Photos:
    """Photos at places of their own.

    Parameters
    ----------
    structure
        The slide.
    places
        (photos, 2): top and left of each photo in pixels of the full scan.
    real
        (photos,): False for photos that were not taken, whose place means nothing.
    """

    def __init__(self, structure: Structure, places: Integers, real: npt.NDArray[np.bool_]) -> None:
        self._structure = structure
        self._places = places
        self._real = real
        side = np.array(structure.zooms[0].tile) * structure.divisions
        self._side: tuple[int, int] = (int(side[0]), int(side[1]))
        base = structure.base
        self._cells = base[0] // self._side[0] + 2, base[1] // self._side[1] + 2
        inside = np.flatnonzero((places > -side).all(axis=1) & (places < base).all(axis=1) & real)
        cell = places[inside] // side + 1
        key = cell[:, 0] * self._cells[1] + cell[:, 1]
        order = np.argsort(key, kind="stable")
        self._by_cell = inside[order]
        cells = np.arange(self._cells[0] * self._cells[1] + 1)
        self._starts = np.searchsorted(key[order], cells)
        """Where the photos of each cell, as large as a photo, begin in ``_by_cell``."""
        grid = np.stack(np.divmod(np.arange(len(places)), structure.photos[1]), axis=1)
        self._first = grid * structure.divisions
        """(photos, 2): row and column of the first image of each photo."""
        self._inside = {zoom.concat: self._images_of_a_photo(zoom) for zoom in structure.zooms}

    def parts(self, zoom: int) -> int:
        """Return into how many parts per side an image of a level is cut: one per photo."""
        return max(1, self._structure.zooms[zoom].concat // self._structure.divisions)

    def tiles(self, zoom: int, region: Region) -> Tiles:
        """Return the tiles under a region of a level, in the order of images."""
        level = self._structure.zooms[zoom]
        found = self._cut(level, self._near(level.concat, region))
        height, width = (side / self.parts(zoom) for side in level.tile)
        y, x = found.place.T
        over = (y < region.stop_y) & (y > region.y - math.ceil(height) - 1)
        over &= (x < region.stop_x) & (x > region.x - math.ceil(width) - 1)
        # Parts are laid in the order of their photos.
        rank = found.image if self.parts(zoom) == 1 else found.photo
        needed = over.nonzero()[0]
        return found.chosen(needed[rank[needed].argsort()])

    def taken(
        self, zoom: int, tiles: Tiles, photos: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Return which tiles show a photo that was taken."""
        return np.asarray(photos.ravel()[tiles.photo])

    def corners(self, image: Integers) -> npt.NDArray[np.float64]:
        """Return (n, 2): top and left of images of zoom 0, without photos of unknown place."""
        structure = self._structure
        place = np.stack(np.divmod(image, structure.images[1]), axis=1)
        photo, within = np.divmod(place, structure.divisions)
        number = photo[:, 0] * structure.photos[1] + photo[:, 1]
        zoom = structure.zooms[0]
        found = self._places[number] / zoom.concat + within // zoom.concat * zoom.tile
        return np.asarray(found[self._real[number]])

    def _near(self, concat: int, region: Region) -> Integers:
        """Return the photos that may touch a region."""
        top, bottom = self._cells_over(0, (region.y - 2) * concat, (region.stop_y + 1) * concat)
        left, right = self._cells_over(1, (region.x - 2) * concat, (region.stop_x + 1) * concat)
        rows = range(top * self._cells[1], (bottom + 1) * self._cells[1], self._cells[1])
        return np.concatenate(
            [self._by_cell[self._starts[r + left] : self._starts[r + right + 1]] for r in rows]
        )

    def _cells_over(self, axis: int, low: int, high: int) -> tuple[int, int]:
        """Return the first and last cell whose photos may reach pixels of the scan."""
        side, most = self._side[axis], self._cells[axis] - 1
        return min(max(low // side, 0), most), min(max(high // side + 1, 0), most)

    def _images_of_a_photo(self, zoom: Zoom) -> tuple[Integers, Integers]:
        """Return by how much their numbers, and their places (n, 2), differ from the first's."""
        structure = self._structure
        per_side = structure.divisions // zoom.concat
        y, x = np.divmod(np.arange(per_side**2), max(per_side, 1))
        height, width = structure.zooms[0].tile
        shifts = np.stack([y * height, x * width], axis=1)
        return (y * structure.images[1] + x) * zoom.concat, shifts

    def _cut(self, level: Zoom, photos: Integers) -> Tiles:
        """Return the tiles of photos: many images of each, or one part of an image."""
        side, columns = self._structure.divisions, self._structure.images[1]
        first, place = self._first[photos], self._places[photos] / level.concat
        if level.concat > side:
            within = first % level.concat
            row, column = (first - within).T
            return Tiles(row * columns + column, within // side, place, photos)
        steps, shifts = self._inside[level.concat]
        row, column = first.T
        number = (row * columns + column)[:, None] + steps
        places = place[:, None] + shifts
        parts = np.zeros((number.size, 2), dtype=np.int64)
        return Tiles(number.ravel(), parts, places.reshape(-1, 2), photos.repeat(len(steps)))


def find_places(slide: Path, structure: Structure, index: Index) -> tuple[Places, list[str]]:
    """Read the table of positions, if there is one.

    Returns
    -------
    Where the images lie, and sentences for the user

    Raises
    ------
    SlideError
        If the table is damaged.
    """
    count = structure.photos[0] * structure.photos[1]
    size = count * _POSITION.itemsize
    raw, packed = structure.other(_RAW), structure.other(_PACKED)
    if raw is not None:
        data = _first(index.items(raw.first))
    elif packed is not None:
        stream = zlib.decompressobj()
        data = stream.decompress(_first(index.items(packed.first)), size + 1)
    else:
        return _nominal(structure)
    if len(data) != size:
        raise damaged(slide, f"its table of positions holds {len(data)} bytes instead of {size}")
    table = np.frombuffer(data, _POSITION)
    if np.any(table["flag"] > 1):
        raise damaged(slide, "its table of positions has unknown flags")
    places = np.stack([table["y"], table["x"]], axis=1).astype(np.int64) * structure.zooms[0].concat
    real = (places != 0).any(axis=1)
    real[0] = True
    return Photos(structure, places, real), []


def _nominal(structure: Structure) -> tuple[Places, list[str]]:
    """Lay the photos on a grid."""
    said = []
    if structure.other(_HARDWARE) is not None:
        said.append(
            "The positions of this scanner's photos are stored in an unknown way, so photos are "
            "laid edge to edge, and may not fit at their seams."
        )
    overlap = np.array(structure.zooms[0].overlap)
    if not overlap.any():
        return Grid(structure), said
    step = np.array(structure.zooms[0].tile) * structure.divisions - overlap
    grid = np.stack(np.divmod(np.arange(np.prod(structure.photos)), structure.photos[1]), axis=1)
    places = (grid * step).astype(np.int64)
    return Photos(structure, places, np.ones(len(places), bool)), said


def _first(items: Sequence[bytes]) -> bytes:
    return items[0] if items else b""
