"""Decoded tiles in memory that is used again.

Fresh memory for every tile costs a third of its decoding, because the system clears it page by
page.  So the tiles lie in one block, and the longest unused one is overwritten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

from napari_focusfuse.slide import UInt8Image


class TilePool:
    """The most recently used tiles of one shape; safe from several threads at once.

    Parameters
    ----------
    shape
        (height, width) of a tile.
    max_bytes
        Size of the block, which is taken when the first tile is wanted.
    """

    def __init__(self, shape: tuple[int, int], max_bytes: int) -> None:
        self._shape = (*shape, 3)
        self._count = max(1, max_bytes // (3 * shape[0] * shape[1]))
        self._block: UInt8Image | None = None
        self._places: OrderedDict[Hashable, int] = OrderedDict()
        self._free = list(range(self._count))[::-1]
        self._users = [0] * self._count
        self._lock = threading.Lock()

    def use(
        self,
        key: Hashable,
        decode: Callable[[UInt8Image], None],
        look: Callable[[UInt8Image], None],
    ) -> None:
        """Call ``look`` with a tile (Y, X, 3), which is not overwritten meanwhile.

        Parameters
        ----------
        key
            Of the tile.
        decode
            Fills the memory it is given, if the tile is not there.
        look
            Must not keep the tile.
        """
        place, there = self._taken(key)
        if place is None:  # all are lent: as many threads read as there are tiles
            image = np.empty(self._shape, dtype=np.uint8)
            decode(image)
            look(image)
            return
        try:
            image = self._memory()[place]
            if not there:
                decode(image)
                there = self._published(key, place)
            look(image)
        finally:
            with self._lock:
                self._users[place] -= 1
                if not there:  # not decoded, or another thread was faster
                    self._free.append(place)

    def _taken(self, key: Hashable) -> tuple[int | None, bool]:
        """Return a place and whether the tile is there already; None if all are lent."""
        with self._lock:
            place = self._places.get(key)
            there = place is not None
            if place is not None:
                self._places.move_to_end(key)
            elif self._free:
                place = self._free.pop()
            else:
                oldest = next((k for k, p in self._places.items() if not self._users[p]), None)
                place = None if oldest is None else self._places.pop(oldest)
            if place is not None:
                self._users[place] += 1
            return place, there

    def _published(self, key: Hashable, place: int) -> bool:
        with self._lock:
            return self._places.setdefault(key, place) == place

    def _memory(self) -> UInt8Image:
        if self._block is None:
            with self._lock:
                if self._block is None:
                    self._block = np.empty((self._count, *self._shape), dtype=np.uint8)
        return self._block
