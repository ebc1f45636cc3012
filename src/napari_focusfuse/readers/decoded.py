"""Planes that can only be decoded whole, kept within a memory budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from napari_focusfuse.slide import UInt8Image

MEMORY_BUDGET = 512 << 20
"""Bytes of decoded planes a slide may keep; one plane is always kept."""


class DecodedPlanes:
    """The most recently read of a slide's planes; safe from several threads at once.

    Parameters
    ----------
    budget
        Most bytes that are kept, but for a single larger plane.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = MEMORY_BUDGET if budget is None else budget
        self._planes: OrderedDict[Hashable, UInt8Image] = OrderedDict()
        self._decoding: dict[Hashable, threading.Lock] = {}
        self._bookkeeping = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of the planes that are kept."""
        return sum(plane.nbytes for plane in self._planes.values())

    def get(self, key: Hashable, decode: Callable[[], UInt8Image]) -> UInt8Image:
        """Return a plane, calling ``decode`` if it is not kept; never twice at once for one key."""
        with self._bookkeeping:
            turn = self._decoding.setdefault(key, threading.Lock())
        with turn:
            with self._bookkeeping:
                if key in self._planes:
                    self._planes.move_to_end(key)
                    return self._planes[key]
            plane = decode()
            with self._bookkeeping:
                self._planes[key] = plane
                while len(self._planes) > 1 and self.nbytes > self.budget:
                    self._planes.popitem(last=False)
            return plane

    def clear(self) -> None:
        """Forget all planes."""
        with self._bookkeeping:
            self._planes.clear()
