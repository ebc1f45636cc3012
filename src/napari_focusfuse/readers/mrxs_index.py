"""``Index.dat``: where each image lies.  Little-endian int32, lists of pages, read when asked for.

A list is a head (0, first page) and pages of (count, next page) and entries.  Pages mostly follow
each other, so many are read and taken apart at once; a page that points elsewhere only costs a
further read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import SlideError

from .faults import damaged
from .mrxs_files import RangeReader, SlideFolder, StoredFile
from .mrxs_structure import Structure

VERSION = b"01.02"
ENTRY = np.dtype([("image", "<i4"), ("offset", "<i4"), ("length", "<i4"), ("file", "<i4")])
Entries = npt.NDArray[np.void]
"""(n,) of :data:`ENTRY`."""

_MOST_PAGES = 512
"""Read at once: a megabyte of pages of 128 entries."""
_MAX_ITEMS = 16


class Index:
    """The index of a slide.

    Parameters
    ----------
    folder, structure
        The slide.
    reader
        Reads the files.

    Raises
    ------
    SlideError
        If the file is not the index of this slide, or contradicts itself.
    """

    def __init__(self, folder: SlideFolder, structure: Structure, reader: RangeReader) -> None:
        self.slide: Path = folder.slide
        self._structure = structure
        self._reader, self._unchanged = reader, folder.unchanged
        self.file = folder.file(structure.index_file)
        self.data: tuple[StoredFile, ...] = tuple(folder.file(name) for name in structure.files)
        self._sizes = np.array([file.size for file in self.data], dtype=np.int64)
        identity = structure.slide_id.encode("utf-8", errors="replace")
        start = self._bytes(0, len(VERSION) + len(identity) + 8)
        if not start.startswith(VERSION):
            raise self._wrong(f"has version {start[:5]!r}, not {VERSION!r}")
        if not start.startswith(VERSION + identity):
            raise self._wrong("belongs to another slide than Slidedat.ini")
        self.roots: tuple[int, int] = struct.unpack("<ii", start[-8:])
        self.table = self._integers(self.roots[0], structure.records)
        """Where the list of each record begins; 0 where there is none."""

    def first_page(self, head: int) -> int:
        """Return where the first page of a list lies, 0 if the list is empty."""
        zero, page = self._integers(head, 2)
        if zero != 0:
            raise self._wrong(f"has no list at byte {head}")
        return int(page)

    def first_entries(self, head: int, zoom: int) -> Entries:
        """Return the entries of the first page that has any, checked."""
        found = _entries(next(([part] for _, part in self._pages(head) if len(part)), []))
        self._check(found, zoom)
        return found

    def entries(self, head: int, zoom: int) -> Entries:
        """Return all entries of a list, checked, in the order of images, each image once."""
        found = _entries([part for _, part in self._pages(head)])
        self._check(found, zoom)
        images = found["image"]
        if np.all(images[1:] > images[:-1]):
            return found
        backwards = found[::-1]  # of an image stored twice the last counts
        _, first = np.unique(backwards["image"], return_index=True)
        return np.asarray(backwards[first])

    def survey(self, head: int) -> tuple[int, Entries]:
        """Return how many pages a list has, and its entries, checked but for their zoom level."""
        parts = list(self._pages(head))
        found = _entries([part for _, part in parts])
        self._check(found, None)
        return sum(pages for pages, _ in parts), found

    def payload(self, entry: Entries | np.void, most: int | None = None) -> bytes:
        """Return the bytes an entry points to, at most ``most`` of them."""
        _, offset, length, file = (int(entry[name]) for name in ENTRY.names or ())
        self.check([file])
        return self.bytes_at(offset, length if most is None else min(most, length), file)

    def check(self, files: Iterable[int]) -> None:
        """Refuse to go on if data files are not what they were when the slide was opened."""
        for file in files:
            self._unchanged.check(self.data[file].path)

    def bytes_at(self, offset: int, length: int, file: int) -> bytes:
        """Return a range of a data file, which the caller checks once for many ranges."""
        return self._reader.read(self.data[file].path, offset, length)

    def items(self, record: int) -> list[bytes]:
        """Return what a non-hierarchical record holds; mostly one item, sometimes a second."""
        head = int(self._integers(self.roots[1] + 4 * record, 1)[0])
        page = self.first_page(head) if head else 0
        if not page:
            return []
        count = int(self._integers(page, 2)[0])
        if not 0 <= count <= _MAX_ITEMS:
            raise self._wrong(f"has a page of {count} items at byte {page}")
        found = []
        for offset, length, number in self._integers(page + 8, 5 * count).reshape(-1, 5)[:, 2:]:
            place = np.array([(0, offset, length, number)], ENTRY)
            self._check(place, None)
            found.append(self.payload(place[0]))
        return found

    def _pages(self, head: int) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        """Yield numbers of pages and their entries, (n, 4); never more in all than images."""
        page = self._structure.page
        # Entries as plain numbers: NumPy copies records one by one.
        layout = np.dtype([("count", "<i4"), ("next", "<i4"), ("entries", "<i4", (page, 4))])
        most = self._structure.images[0] * self._structure.images[1]
        hops = self.file.size // (8 + ENTRY.itemsize) + 2
        at, together = self.first_page(head), 1
        while at:
            hops -= 1
            blocks = min(together, max(0, self.file.size - at) // layout.itemsize)
            if blocks and at > 0:
                pages = np.frombuffer(self._bytes(at, blocks * layout.itemsize), layout)
            else:
                pages = self._short_page(at, layout)
            following = at + layout.itemsize * np.arange(1, len(pages) + 1)
            stops = np.flatnonzero(pages["next"] != following)
            pages = pages[: stops[0] + 1] if len(stops) else pages
            counts = pages["count"]
            if hops < 0 or counts.min() < 0 or counts.max() > page:
                raise self._wrong(f"has a damaged list: pages at byte {at}")
            found = pages["entries"].reshape(-1, 4)
            if counts.min() < page:  # mostly only the last is not full
                found = found[(np.arange(page) < counts[:, None]).ravel()]
            most -= len(found)
            if most < 0:
                raise self._wrong("lists more images than the slide has, or its pages form a loop")
            yield len(pages), found
            at = int(pages["next"][-1])
            together = 1 if len(stops) else min(together * 8, _MOST_PAGES)

    def _short_page(self, at: int, layout: np.dtype[np.void]) -> npt.NDArray[np.void]:
        """Read a page near the end of the file, where it may not be filled up."""
        count = int(self._integers(at, 2)[0])
        if not 0 <= count <= self._structure.page:
            raise self._wrong(f"has a page of {count} entries at byte {at}")
        data = self._bytes(at, 8 + ENTRY.itemsize * count)
        return np.frombuffer(data.ljust(layout.itemsize, b"\0"), layout)

    def _check(self, entries: Entries, zoom: int | None) -> None:
        """Refuse entries of images or bytes that cannot be."""
        rows, columns = self._structure.images
        concat = 1 if zoom is None else self._structure.zooms[zoom].concat
        images, files = entries["image"], entries["file"]
        if np.any((images < 0) | (images >= rows * columns)):
            raise self._wrong(f"lists an image outside the {columns} x {rows} of the slide")
        if concat > 1 and np.any((images % columns) % concat | (images // columns) % concat):
            raise self._wrong(f"lists an image off the grid of zoom level {zoom}")
        if np.any((files < 0) | (files >= len(self.data))):
            raise self._wrong("names a data file that does not exist")
        ends = entries["offset"].astype(np.int64) + entries["length"]
        starts, lengths = entries["offset"], entries["length"]
        if np.any((starts < 0) | (lengths <= 0) | (ends > self._sizes[files])):
            raise self._wrong("points outside the data files, so one of them may be cut short")

    def _integers(self, at: int, count: int) -> npt.NDArray[np.int32]:
        return np.frombuffer(self._bytes(at, 4 * count), "<i4")

    def _bytes(self, at: int, length: int) -> bytes:
        if at < 0 or at + length > self.file.size:
            raise self._wrong(f"is cut short, or points to byte {at} of {self.file.size}")
        self._unchanged.check(self.file.path)
        return self._reader.read(self.file.path, at, length)

    def _wrong(self, what: str) -> SlideError:
        return damaged(self.slide, f"{self.file.path.name} {what}")


def _entries(parts: Sequence[npt.NDArray[np.int32]]) -> Entries:
    """Join rows of four numbers to entries."""
    rows = np.concatenate([np.empty((0, 4), "<i4"), *parts])
    return rows.view(ENTRY)[:, 0]
