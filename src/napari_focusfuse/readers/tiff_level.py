"""The levels of one image of a TIFF, as tifffile and zarr give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_focusfuse.slide import Region, SlideError, UInt8Image

from .faults import damaged, not_rgb
from .segments import guard
from .tiff_metadata import TiffMetadata, stored_heights

_GREY, _RGB, _YCBCR = (0, 1), 2, 6
_JPEG = (6, 7, 33007, 34892)
_DECODER_THREADS = 4
_LARGE_SEGMENT = 1 << 20
"""Pixels of a tile or strip from which on it is worth keeping decoded."""


@dataclass(frozen=True)
class StoredLevel:
    """One level as tifffile gives it."""

    path: Path
    array: Any
    """zarr array with the axes of ``axes``."""
    axes: str
    focus_axis: int | None
    order: tuple[int, ...]
    """Where each focal plane, from the lowest, is stored along the focus axis."""
    page: Any
    plane_offsets: tuple[int, ...] | None
    """Where the rows of each stored plane begin, if they lie in the file as they are."""
    file: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.array.shape[self.axes.index("Y")], self.array.shape[self.axes.index("X")]

    @property
    def chunk(self) -> tuple[int, int]:
        """(height, width) of what is read at once."""
        if self.plane_offsets is not None:
            return 512, 512
        return self.array.chunks[self.axes.index("Y")], self.array.chunks[self.axes.index("X")]

    @property
    def one_segment(self) -> bool:
        """Whether a plane is compressed as a whole, so that any part needs all of it decoded."""
        height, width = self.chunk
        whole = self.shape[0] <= height and self.shape[1] <= width
        return self.plane_offsets is None and whole and height * width > _LARGE_SEGMENT

    @property
    def premultiplied(self) -> bool:
        """Whether the colours were already multiplied by alpha."""
        return tuple(self.page.extrasamples[:1]) == (1,)

    def read(self, plane: int, region: Region) -> UInt8Image:
        """Read an RGB or RGBA rectangle of the plane."""
        if self.plane_offsets is not None:
            return self._rows(self.plane_offsets[self.order[plane]], region)
        index: list[int | slice] = [0] * len(self.axes)
        if self.focus_axis is not None:
            index[self.focus_axis] = self.order[plane]
        index[self.axes.index("Y")] = slice(region.y, region.stop_y)
        index[self.axes.index("X")] = slice(region.x, region.stop_x)
        index[self.axes.index("S")] = slice(None)
        kept = [axis for axis in self.axes if axis in "YXS"]
        pixels = np.asarray(self.array[tuple(index)], dtype=np.uint8)
        return pixels.transpose([kept.index(axis) for axis in "YXS"])

    def _rows(self, offset: int, region: Region) -> UInt8Image:
        """Read rows of an uncompressed plane: zarr would read the whole of it for any part."""
        width, samples = self.shape[1], self.array.shape[-1]
        length = region.height * width * samples
        handle = self.file.filehandle
        with handle.lock:
            handle.seek(offset + region.y * width * samples)
            data = handle.read(length)
        if len(data) != length:
            raise damaged(self.path, "image data ends early")
        rows = np.frombuffer(data, dtype=np.uint8).reshape(region.height, width, samples)
        return rows[:, region.x : region.stop_x]


def stored_levels(
    path: Path, series: Any, axis: int | None, metadata: TiffMetadata, order: Sequence[int]
) -> list[StoredLevel]:
    """Return the levels that hold every focal plane, largest first.

    Parameters
    ----------
    path
        For messages.
    series
        ``tifffile.TiffPageSeries``.
    axis
        Which of its axes counts focal planes, or None.
    metadata, order
        Heights of the planes, and where level 0 stores them, from the lowest.

    Raises
    ------
    SlideError
        If planes are missing, or pixels are no 8-bit RGB, or compressed in a way we do not trust.
    """
    levels: list[StoredLevel] = []
    for index, level in enumerate(series.levels):
        # NDPI names the axis of focus on the first level only.
        if _image_axes(level) != _image_axes(series) or level.dtype != series.dtype:
            continue
        own = _level_order(level, series.kind, metadata, order)
        stored = _stored_level(path, series, index, axis, own) if own else None
        if stored and (not levels or stored.shape < levels[-1].shape):
            levels.append(stored)
    return levels


def _image_axes(series: Any) -> list[str]:
    return [axis if axis in "YXS" else "" for axis in series.get_axes(False)]


def _level_order(
    level: Any, kind: str, metadata: TiffMetadata, order: Sequence[int]
) -> tuple[int, ...] | None:
    """Return where a level stores the planes, or None if it does not hold just these planes."""
    count = len(order)
    heights = stored_heights(kind, level, count)
    if heights is None or metadata.heights_um is None:
        return tuple(order)
    if sorted(heights) != sorted(metadata.heights_um):
        return None
    return tuple(sorted(range(count), key=lambda index: heights[index]))


def _stored_level(
    path: Path, series: Any, index: int, axis: int | None, order: tuple[int, ...]
) -> StoredLevel | None:
    level = series.levels[index]
    count = 1 if axis is None else level.get_shape(False)[axis]
    if count != len(order):
        return None
    page = level.keyframe
    check_colour(path, page)
    flat = [_page_index(level, axis, plane) for plane in range(count)]
    offsets = _plain_rows(level, flat)
    if offsets is None:
        for place in flat:
            if level.pages[place] is None:
                raise SlideError(
                    f"{path.name} lacks focus layers that it names, as they are missing or in "
                    "other files; join all into one OME-TIFF."
                )
            guard(level.pages[place].keyframe, path)
    import zarr

    store = series.aszarr(level=index, squeeze=False, fillvalue=255, maxworkers=_DECODER_THREADS)
    array = zarr.open_array(store, mode="r")
    return StoredLevel(
        path, array, level.get_axes(False), axis, order, page, offsets, series.keyframe.parent
    )


def _plain_rows(level: Any, flat: Sequence[int]) -> tuple[int, ...] | None:
    """Return where each plane's rows begin if they are neither compressed nor cut into tiles."""
    page = level.keyframe
    plain = page.is_contiguous and page.compression == 1 and page.predictor == 1
    if not plain or page.fillorder != 1 or not level.get_axes(False).endswith("YXS"):
        return None
    if level.dataoffset is not None:
        return tuple(int(level.dataoffset + place * page.size) for place in flat)
    pages = [level.pages[place] for place in flat]
    if any(other is None or not other.is_contiguous for other in pages):
        return None
    return tuple(int(other.dataoffsets[0]) for other in pages)


def _page_index(level: Any, axis: int | None, plane: int) -> int:
    """Return the position of a plane among the pages of the level, first of all other axes."""
    shape, axes = level.get_shape(False), level.get_axes(False)
    position = 0
    for index, (name, size) in enumerate(zip(axes, shape, strict=True)):
        if name not in "YXS":
            position = position * size + (plane if index == axis else 0)
    return position


def check_colour(path: Path, page: Any) -> None:
    """Refuse whatever is not 8-bit RGB, before any of it is decoded."""
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise not_rgb(path.name, f"{page.bitspersample}-bit values")
    rgb = page.photometric == _RGB or (page.photometric == _YCBCR and page.compression in _JPEG)
    if not rgb or page.samplesperpixel not in (3, 4) or "S" not in page.axes:
        grey = page.photometric in _GREY
        kind = getattr(page.photometric, "name", "unknown").lower()
        raise not_rgb(path.name, "a grey image" if grey else f"a {kind} image")
