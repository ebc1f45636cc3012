"""MIRAX slides of 3DHISTECH scanners, with all their focus layers.

Files and facts: a ``.mrxs`` file, which may be empty, and beside it a folder of the same name with
``Slidedat.ini`` (what there is), ``Index.dat`` (where it lies) and data files.  Opening reads the
ini file and the table of lists; the list of a plane and level is read when a pixel of it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.pixels import halve
from napari_focusfuse.slide import (
    FocalPlane,
    Level,
    Region,
    Slide,
    UInt8Image,
)

from .associated import Pictures
from .faults import damaged, told
from .mrxs_codecs import decode_picture
from .mrxs_files import RangeReader, SlideFolder
from .mrxs_images import Images
from .mrxs_index import Index
from .mrxs_ini import MAX_BYTES, Ini
from .mrxs_paint import Canvas, Tile
from .mrxs_places import Tiles, find_places
from .mrxs_records import Records, find_records, stored_filters
from .mrxs_report import describe
from .mrxs_stack import Stack, read_stack_of
from .mrxs_structure import Structure, read_structure

INI = "Slidedat.ini"
_PICTURES = {
    "ScanDataLayer_SlideThumbnail": "macro",
    "ScanDataLayer_SlideBarcode": "label",
    "ScanDataLayer_SlidePreview": "thumbnail",
}
_HALF = 512
"""Side of the tiles in which a level that is not stored is computed."""


def open_mrxs(path: Path, zero: int | None = None) -> MiraxSlide:
    """Open a MIRAX slide.

    Raises
    ------
    SlideError
        If it is damaged, or refers to files outside its folder.
    """
    with told(path):
        folder = SlideFolder(path)
        reader = RangeReader(folder)
        try:
            ini = folder.file(INI)
            if ini.size > MAX_BYTES:
                raise damaged(path, f"its {INI} of {ini.size >> 20} MB is larger than any real one")
            structure = read_structure(folder, Ini(path, reader.read(ini.path, 0, ini.size)))
            index = Index(folder, structure, reader)
            return MiraxSlide(path, structure, index, reader, zero)
        except BaseException:
            reader.close()
            raise


class MiraxSlide(Slide):
    """A MIRAX slide.

    Parameters
    ----------
    path
        The ``.mrxs`` file.
    structure, index
        What its files say.
    reader
        Reads them; the slide closes it.
    zero
        Index of the plane that counts as layer 0, or None for the vendor's.
    """

    format = "mrxs"

    def __init__(
        self,
        path: Path,
        structure: Structure,
        index: Index,
        reader: RangeReader,
        zero: int | None = None,
    ) -> None:
        self._structure, self._index, self._reader = structure, index, reader
        self._records: Records = find_records(structure, index)
        self._places, said = find_places(path, structure, index)
        stack: Stack = read_stack_of(
            path, structure, self._records, stored_filters(structure, index)
        )
        self._slots = stack.slots
        self._images = Images(structure, index, self._records)
        self._bounds: Region | None = None
        first = structure.zooms[0].concat
        super().__init__(
            path,
            planes=stack.planes,
            levels=[
                Level(*structure.shape(zoom)[::-1], (structure.zooms[zoom].concat / first,) * 2)
                for zoom in range(stack.levels)
            ],
            zero=stack.zero if zero is None else zero,
            extended=stack.extended,
            mpp=structure.zooms[0].mpp,
            objective=structure.ini.number("GENERAL", "OBJECTIVE_MAGNIFICATION") or None,
            background=structure.background,
            warnings=[*said, *stack.warnings],
            not_shown=stack.not_shown,
        )

    def stored(self, plane: FocalPlane, level: int) -> bool:
        """Tell whether the file itself holds this plane at this level."""
        return self._records.stored(self._slot(plane), level)

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return whole tiles of the file, about 512 pixels or more a side."""
        height, width = (side * -(-512 // side) for side in self._structure.zooms[level].tile)
        return min(height, 2048), min(width, 2048)

    @property
    def bounds(self) -> Region:
        """The part of level 0 in which layer 0 has images."""
        with told(self.path):
            if self._bounds is None:
                self._bounds = self._found_bounds()
            return self._bounds

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail, decoded on access."""
        group = self._structure.other("Scan data layer")
        values = group.values if group else ()
        records = {
            _PICTURES[value]: group.first + number
            for number, value in enumerate(values)
            if group and value in _PICTURES
        }

        def read(name: str) -> UInt8Image:
            with told(self.path):
                items = self._index.items(records[name])
                return decode_picture(items[0] if items else b"")

        return Pictures(records, read)

    def structure(self) -> dict[str, Any]:
        """Return how the slide is stored, without names of people or pixels."""
        with told(self.path):
            return describe(self._structure, self._index, self._records)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def read_stack(
        self, planes: Sequence[FocalPlane], level: int, y: int, x: int, height: int, width: int
    ) -> UInt8Image:
        """Read the same rectangle of several planes; which tiles it needs is found once."""
        for plane in planes:
            self._check_plane(plane)
        shape = self._check_request(level, height, width)
        inside = Region(y, x, height, width).clipped(*shape)
        out = np.empty((len(planes), height, width, 3), dtype=np.uint8)
        if (inside.height, inside.width) != (height, width):
            out[:] = self.background
        if inside.height and inside.width:
            rows = slice(inside.y - y, inside.stop_y - y)
            columns = slice(inside.x - x, inside.stop_x - x)
            with told(self.path):
                tiles = self._places.tiles(level, inside)
                for image, plane in zip(out, planes, strict=True):
                    image[rows, columns] = self._painted(plane, level, inside, tiles)
        return out

    def coverage(self, plane: FocalPlane, level: int, region: Region) -> npt.NDArray[np.uint8]:
        """Return (height, width) uint8: 255 where a stored plane has pixels, 0 where none.

        The region lies inside the level; no pixel is decoded.
        """
        with told(self.path):
            canvas = Canvas(region.height, region.width, self.background, mixed=True)
            blank = np.zeros((*self._structure.zooms[level].tile, 3), dtype=np.uint8)
            entries, tiles = self._there(
                self._slot(plane), level, self._places.tiles(level, region)
            )
            for _, lay in self._laid(canvas, level, region, entries, tiles):
                lay(blank)
            return canvas.alpha()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        with told(self.path):
            return self._painted(plane, level, region, self._places.tiles(level, region))

    def _painted(self, plane: FocalPlane, level: int, region: Region, tiles: Tiles) -> UInt8Image:
        if not self.stored(plane, level):
            return self._computed(plane, level, region)
        slot = self._slot(plane)
        entries, tiles = self._there(slot, level, tiles)
        self._index.check(set(entries[:, 3].tolist()))
        mixed = self._places.parts(level) > 1 or bool((tiles.place % 1).any())
        canvas = Canvas(region.height, region.width, self.background, mixed=mixed)
        for entry, lay in self._laid(canvas, level, region, entries, tiles):
            self._images.tile(slot, level, entry, lay)
        return canvas.finish()

    def _there(self, slot: int, level: int, tiles: Tiles) -> tuple[npt.NDArray[np.int32], Tiles]:
        """Return which of some tiles a slot has: (n, 4), as in its list, and their places."""
        lists = self._images.lists(slot, level)
        images = lists[0]
        if not len(images):
            return np.empty((0, 4), np.int32), tiles.chosen(np.empty(0, np.int64))
        at = np.minimum(np.searchsorted(images, tiles.image.astype(np.int32)), len(images) - 1)
        there = images[at] == tiles.image
        if level > 0 and self._records.stored(slot, 0):
            there &= self._places.taken(level, tiles, self._images.photos(slot))
        if not there.all():
            tiles, at = tiles.chosen(there.nonzero()[0]), at[there]
        return lists[:, at].T, tiles

    def _laid(
        self,
        canvas: Canvas,
        level: int,
        region: Region,
        entries: npt.NDArray[np.int32],
        tiles: Tiles,
    ) -> Iterator[tuple[list[int], Callable[[UInt8Image], None]]]:
        """Yield each tile and what lays its pixels, in the order the canvas wants."""
        parts = self._places.parts(level)
        high, wide = (side / parts for side in self._structure.zooms[level].tile)
        order = -1 if canvas.topmost_first else 1
        for entry, (top, left), (row, column) in zip(
            entries[::order].tolist(),
            tiles.place[::order].tolist(),
            tiles.part[::order].tolist(),
            strict=True,
        ):

            def lay(
                image: UInt8Image,
                part: tuple[float, ...] = (row * high, column * wide, high, wide),
                place: tuple[float, float] = (top - region.y, left - region.x),
            ) -> None:
                canvas.lay(Tile(image).part(*part) if parts > 1 else Tile(image), *place)

            yield entry, lay

    def _computed(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        """Halve the next finer level, tile by tile, for a level that is not stored."""
        out = np.empty((region.height, region.width, 3), dtype=np.uint8)
        height, width = self.levels[level].shape
        for row in range(region.y // _HALF, (region.stop_y - 1) // _HALF + 1):
            for column in range(region.x // _HALF, (region.stop_x - 1) // _HALF + 1):
                whole = Region(row * _HALF, column * _HALF, _HALF, _HALF).clipped(height, width)
                key = (self._slot(plane), level, row, column)
                tile = self._images.computed.get(key, partial(self._halved, plane, level, whole))
                top, left = max(whole.y, region.y), max(whole.x, region.x)
                stop_y, stop_x = min(whole.stop_y, region.stop_y), min(whole.stop_x, region.stop_x)
                out[top - region.y : stop_y - region.y, left - region.x : stop_x - region.x] = tile[
                    top - whole.y : stop_y - whole.y, left - whole.x : stop_x - whole.x
                ]
        return out

    def _halved(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        zooms = self._structure.zooms
        step = zooms[level].concat // zooms[level - 1].concat
        finer = Region(*(side * step for side in (region.y, region.x, region.height, region.width)))
        image = self._read(plane, level - 1, finer)
        while step > 1:
            image, step = halve(image), step // 2
        return image

    def _slot(self, plane: FocalPlane) -> int:
        return self._slots[plane.index]

    def _found_bounds(self) -> Region:
        """Return the smallest rectangle around the images of layer 0."""
        slot = self._slot(self.planes[self.zero])
        whole = Region(0, 0, *self.levels[0].shape)
        corners = self._places.corners(self._images.lists(slot, 0)[0].astype(np.int64))
        if not len(corners) or self._places.parts(0) > 1:  # parts lie anywhere
            return whole
        (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
        height, width = self._structure.zooms[0].tile
        y, x = int(np.floor(top)), int(np.floor(left))
        stop_y, stop_x = int(np.ceil(bottom + height)), int(np.ceil(right + width))
        return Region(y, x, stop_y - y, stop_x - x).clipped(*self.levels[0].shape)
