"""The images of a MIRAX slide, list by list and tile by tile, of which the latest are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.slide_array import TileCache

from .decoded import DecodedPlanes
from .mrxs_codecs import decode_tile
from .mrxs_index import Index
from .mrxs_pool import TilePool
from .mrxs_records import Records
from .mrxs_structure import Structure

_TILE_BYTES = 32 << 20
"""Decoded tiles a slide keeps, so that neighbouring regions do not decode them again."""

_COMPUTED_BYTES = 16 << 20

_LIST_BYTES = 64 << 20
"""Lists of images a slide keeps; one of 849 thousand images takes 14 MB."""


class Images:
    """The images of all focus slots; safe from several threads at once.

    Parameters
    ----------
    structure, index, records
        The slide.
    """

    def __init__(self, structure: Structure, index: Index, records: Records) -> None:
        self._structure, self._index, self._records = structure, index, records
        self._lists = DecodedPlanes(_LIST_BYTES)
        self._taken: dict[int, npt.NDArray[np.bool_]] = {}
        self._noting = threading.Lock()
        self._pool = TilePool(structure.zooms[0].tile, _TILE_BYTES)
        self.computed = TileCache(_COMPUTED_BYTES)
        """Tiles of levels that are not stored."""

    def lists(self, slot: int, level: int) -> npt.NDArray[np.int32]:
        """Return (4, n): image, offset, length and file of a slot, in the order of images."""
        head = int(self._records.heads[slot, level])

        def read() -> UInt8Image:
            rows = self._index.entries(head, level).view("<i4").reshape(-1, 4)
            return np.ascontiguousarray(rows.T).view(np.uint8)  # a column is searched at once

        return self._lists.get((slot, level), read).view("<i4")

    def photos(self, slot: int) -> npt.NDArray[np.bool_]:
        """Return (rows, columns): which photos a slot has, by its images of zoom 0."""
        with self._noting:
            found = self._taken.get(slot)
        if found is None:
            structure = self._structure
            rows, columns = structure.photos
            y, x = np.divmod(self.lists(slot, 0)[0], structure.images[1])
            found = np.zeros((rows, columns), dtype=bool)
            found[y // structure.divisions, x // structure.divisions] = True
            block = structure.zooms[0].concat // structure.divisions
            if block > 1:
                found = found[::block, ::block].repeat(block, 0).repeat(block, 1)[:rows, :columns]
            with self._noting:
                self._taken[slot] = found
        return found

    def tile(
        self, slot: int, level: int, entry: Sequence[int], look: Callable[[UInt8Image], None]
    ) -> None:
        """Call ``look`` with the pixels of an image, (Y, X, 3), which it must not keep."""

        def decode(out: UInt8Image) -> None:
            decode_tile(self._index.bytes_at(*entry[1:]), out)

        self._pool.use((slot, level, entry[0]), decode, look)
