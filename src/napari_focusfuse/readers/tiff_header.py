"""A look at a TIFF's directories before any library acts on what they claim.

tifffile allocates what a file declares, and OpenSlide ends the whole process when that fails, so
sizes and places are compared with the file first.  The layout is that of TIFF 6.0, BigTIFF, and
Hamamatsu's NDPI, which keeps 64-bit offsets in classic directories by adding a row of high words.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import MAX_SIDE, SlideError

from .faults import damaged

MAX_TILE_SIDE = 8192
_MAX_DIRECTORIES = 1 << 16
_MAX_TAGS = 4096
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _SUBIFDS = 256, 257, 322, 323, 330
_SEGMENTS = ((273, 279), (324, 325))  # (offsets, byte counts) of strips, of tiles
_NDPI_MARK = 65420
_RESTARTS = (65426, 65432)  # where the intervals of NDPI's JPEG begin: low words, high words


class _Layout(NamedTuple):
    order: str
    number: str
    entry: str
    offset: str
    high_words: bool


class _Tag(NamedTuple):
    kind: int
    length: int
    position: int
    high: int
    """High word of a value that is stored in the entry itself (NDPI)."""


@dataclass(frozen=True)
class TiffHeader:
    """What the directories of a TIFF say about the file."""

    ndpi: bool
    """Whether it is Hamamatsu's variant of TIFF."""
    shape: tuple[int, int]
    """(height, width) of the first image."""


def is_tiff(start: bytes) -> bool:
    """Tell from its first four bytes whether a file is a TIFF or a BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_tiff(path: Path) -> TiffHeader:
    """Check every directory of a TIFF, sub-directories included.

    Raises
    ------
    SlideError
        If sizes are impossible or data lies outside the file.
    """
    with path.open("rb") as file:
        walk = _Walk(path, file)
        try:
            walk.run()
        except (struct.error, OverflowError, ValueError) as error:
            raise damaged(path, "its directory ends early") from error
        return TiffHeader(walk.layout.high_words, walk.shape)


class _Walk:
    """One pass over the directories of one file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = file.seek(0, 2)
        self.shape = (0, 0)
        start = self._bytes(0, 16)
        order = "<" if start[:2] == b"II" else ">"
        if start[2:4] in (b"+\0", b"\0+"):
            self.layout = _Layout(order, "Q", "HHQQ", "Q", False)
            self.first = struct.unpack(order + "Q", start[8:16])[0]
            return
        self.layout = _Layout(order, "H", "HHII", "I", False)
        self.first = struct.unpack(order + "I", start[4:8])[0]
        if order == "<":
            self._try_ndpi(struct.unpack("<Q", start[4:12])[0])

    def _try_ndpi(self, offset: int) -> None:
        classic = self.layout
        if not 0 < offset < self.size:
            return
        self.layout = _Layout("<", "H", "HHII", "Q", True)
        try:
            tags, _ = self._directory(offset)
        except (SlideError, struct.error):
            tags = {}
        if _NDPI_MARK in tags:
            self.first = offset
        else:
            self.layout = classic

    def run(self) -> None:
        """Visit every directory, and the sub-directories each one names."""
        if not self.first:
            raise damaged(self.path, "it holds no image")
        offset, seen = self.first, set[int]()
        while offset:
            if offset in seen or len(seen) >= _MAX_DIRECTORIES:
                raise damaged(self.path, "its directories form a loop")
            seen.add(offset)
            tags, offset = self._directory(offset)
            self._check_image(tags)
            if _SUBIFDS in tags:
                self._check_nested(self._integers(tags[_SUBIFDS]))

    def _check_nested(self, offsets: npt.NDArray[np.uint64]) -> None:
        # Sub-directories are found by their list alone; writers also chain them, or do not.
        for offset in offsets[:_MAX_TAGS]:
            tags, _ = self._directory(int(offset))
            self._check_image(tags)

    def _directory(self, offset: int) -> tuple[dict[int, _Tag], int]:
        layout = self.layout
        width = struct.calcsize(layout.order + layout.number)
        count = struct.unpack(layout.order + layout.number, self._bytes(offset, width))[0]
        if not 0 < count <= _MAX_TAGS:
            raise damaged(self.path, f"a directory claims {count} entries")
        entry = struct.Struct(layout.order + layout.entry)
        value = entry.size - 4 if layout.number == "H" else entry.size - 8
        position = offset + width
        block = self._bytes(position, entry.size * count)
        after = position + entry.size * count
        tail = struct.calcsize(layout.order + layout.offset)
        following = struct.unpack(layout.order + layout.offset, self._bytes(after, tail))[0]
        high = [0] * count
        if layout.high_words:
            high = list(struct.unpack(f"<{count}I", self._bytes(after + tail, 4 * count)))
        tags = {}
        for index in range(count):
            code, kind, number, low = entry.unpack_from(block, index * entry.size)
            inside = position + index * entry.size + value
            length = number * _SIZES.get(kind, 0)
            stored = length <= entry.size - value
            where = inside if stored else low | high[index] << 32
            if where + length > self.size:
                raise damaged(self.path, f"tag {code} lies outside the file")
            tags[code] = _Tag(kind, number, where, high[index] if stored else 0)
        return tags, int(following)

    def _check_image(self, tags: dict[int, _Tag]) -> None:
        sides = tuple(self._values(tags, _HEIGHT, _WIDTH))
        if self.shape == (0, 0) and len(sides) == 2:
            self.shape = sides
        for side in sides:
            if not 0 < side <= MAX_SIDE:
                raise damaged(
                    self.path, f"it claims an image side of {side} pixels, 1 to {MAX_SIDE} can be"
                )
        for side in self._values(tags, _TILE_WIDTH, _TILE_HEIGHT):
            if not 0 < side <= MAX_TILE_SIDE:
                raise damaged(
                    self.path,
                    f"it claims a tile side of {side} pixels, 1 to {MAX_TILE_SIDE} can be",
                )
        for places, lengths in _SEGMENTS:
            if places in tags and lengths in tags:
                self._check_segments(self._integers(tags[places]), self._integers(tags[lengths]))
        self._check_restarts(*(self._integers(tags[code]) for code in _RESTARTS if code in tags))

    def _check_restarts(self, *words: npt.NDArray[np.uint64]) -> None:
        # Lengths to read are differences of these.
        for index, word in enumerate(words):
            if bool(np.any(word > np.uint64(self.size >> 32 * index))):
                raise damaged(self.path, "parts of its image data lie beyond the end of the file")

    def _check_segments(
        self, starts: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64]
    ) -> None:
        count = min(len(starts), len(lengths))
        starts, lengths = starts[:count], lengths[:count]
        room = np.uint64(self.size) - np.minimum(starts, np.uint64(self.size))
        if bool(np.any(lengths > room)):
            raise damaged(self.path, "image data lies beyond the end of the file")

    def _values(self, tags: dict[int, _Tag], *codes: int) -> Iterator[int]:
        for code in codes:
            if code in tags:
                yield from (int(value) for value in self._integers(tags[code])[:1])

    def _integers(self, tag: _Tag) -> npt.NDArray[np.uint64]:
        kind = _INTEGERS.get(tag.kind)
        if kind is None:
            raise damaged(self.path, "a size or place is not a whole number")
        data = self._bytes(tag.position, tag.length * _SIZES[tag.kind])
        values = np.frombuffer(data, dtype=self.layout.order + kind).astype(np.uint64)
        return values + np.uint64(tag.high << 32) if tag.high else values

    def _bytes(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise damaged(self.path, "its directory lies outside the file")
        self.file.seek(offset)
        return self.file.read(length)
