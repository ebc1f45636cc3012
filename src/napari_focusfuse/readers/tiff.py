"""TIFF stacks: OME-TIFF, plain multi-page z, Hamamatsu NDPI, Aperio with focal planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from napari_focusfuse.slide import (
    FocalPlane,
    Level,
    Region,
    Slide,
    SlideError,
    UInt8Image,
)

from .alpha import over
from .associated import Pictures
from .faults import damaged, not_rgb, told
from .segments import guard
from .tiff_header import check_tiff
from .tiff_metadata import TiffMetadata, check_ome, read_metadata, stored_heights

_RGB, _YCBCR = 2, 6
_JPEG = (6, 7, 33007, 34892)
_PICTURES = ("label", "macro", "thumbnail")
_EXTENDED_FOCUS = "extended focus"
"""Name of the OME image, of the same size as the planes, that a scanner fused from them."""
_DECODER_THREADS = 4
_MAX_PLANES = 1000
# What these keep about the images lies in text or tables that tifffile takes at their word; of them
# only the pages are read.
_DISTRUSTED = (
    *("avs", "bif", "eer", "fluoview", "indica", "lsm", "mdgel", "mmstack", "ndtiff", "nih"),
    *("philips", "qpi", "scanimage", "scn", "shaped", "sis", "stk"),
)
_AXES = {"T": "time points", "C": "channels", "Z": "focus layers"}


def open_tiff(path: Path, zero: int | None = None) -> TiffSlide:
    """Open a TIFF after its directories have been checked against the file.

    Raises
    ------
    SlideError
        If the file is damaged or is no 8-bit RGB image.
    """
    with ExitStack() as stack:
        with told(path):
            header = check_tiff(path)
            # Companion files that OME-XML may name are not followed: a slide is one file here.
            flags = {f"is_{kind}": False for kind in _DISTRUSTED} | {"is_ndpi": header.ndpi}
            file = stack.enter_context(tifffile.TiffFile(path, _multifile=False, **flags))
            check_ome(path, file)
            slide = TiffSlide(path, file, zero)
        stack.pop_all()
        return slide


class TiffSlide(Slide):
    """One image of a TIFF, read tile by tile.

    Parameters
    ----------
    path
        Where the file lies.
    file
        The open ``tifffile.TiffFile``; the slide closes it.
    zero
        Index of the plane that counts as layer 0, or None for the file's own.
    """

    format = "tiff"

    def __init__(self, path: Path, file: Any, zero: int | None = None) -> None:
        everything = list(file.series)
        if not everything:
            raise damaged(path, "it holds no image")
        series = max(everything, key=lambda candidate: _area(candidate.keyframe))
        _check_colour(path, series.keyframe)
        axis = _focus_axis(series)
        count = 1 if axis is None else series.get_shape(False)[axis]
        if count > _MAX_PLANES:
            raise damaged(path, f"it claims {count} focus layers")
        metadata = read_metadata(file, series, count)
        order, warnings = _focus_order(metadata.heights_um, count)
        self._file = file
        self._levels = _stored_levels(path, series, axis, metadata, order)
        extended = _extended_levels(path, file, everything, self._levels)
        self._extended = extended[1]
        others = [other for other in everything if other not in (series, extended[0])]
        self._pictures = {
            other.name.lower(): other for other in others if other.name.lower() in _PICTURES
        }
        super().__init__(
            path,
            planes=_planes(metadata, order),
            levels=[Level.under(self._levels[0].shape, level.shape) for level in self._levels],
            zero=zero,
            extended=FocalPlane(-1, "Extended focus") if self._extended else None,
            mpp=metadata.mpp,
            objective=metadata.objective,
            warnings=warnings,
            not_shown=_not_shown(series, axis, others),
        )

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail, decoded on access."""
        return Pictures(self._pictures, self._picture)

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return whole tiles of the file, about 512 pixels or more a side."""
        height, width = (side * -(-512 // side) for side in self._levels[level].chunk)
        return min(height, 2048), min(width, 2048)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        with told(self.path):
            if self._file.filehandle.closed:
                raise SlideError(f"{self.path.name} is closed; open it again.")
            fused = plane == self.extended
            stored = (self._extended if fused else self._levels)[level]
            return over(
                stored.read(0 if fused else plane.index, region),
                self.background,
                premultiplied=stored.premultiplied,
            )

    def _picture(self, name: str) -> UInt8Image:
        with told(self.path):
            page = self._pictures[name].keyframe
            _check_colour(self.path, page)
            guard(page, self.path)
            return over(np.asarray(page.asarray()), self.background)


@dataclass(frozen=True)
class _StoredLevel:
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
        return self.array.shape[self.axes.index("Y")], self.array.shape[self.axes.index("X")]

    @property
    def chunk(self) -> tuple[int, int]:
        if self.plane_offsets is not None:
            return 512, 512
        return self.array.chunks[self.axes.index("Y")], self.array.chunks[self.axes.index("X")]

    @property
    def premultiplied(self) -> bool:
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


def _stored_levels(
    path: Path, series: Any, axis: int | None, metadata: TiffMetadata, order: Sequence[int]
) -> list[_StoredLevel]:
    levels: list[_StoredLevel] = []
    for index, level in enumerate(series.levels):
        # NDPI names the axis of focus on the first level only.
        if _image_axes(level) != _image_axes(series) or level.dtype != series.dtype:
            continue
        own = _level_order(level, series.kind, metadata, order)
        stored = _stored_level(path, series, index, axis, own) if own else None
        if stored and (not levels or stored.shape < levels[-1].shape):
            levels.append(stored)
    return levels


def _extended_levels(
    path: Path, file: Any, everything: Sequence[Any], levels: Sequence[_StoredLevel]
) -> tuple[Any, list[_StoredLevel]]:
    """Return the series that holds the extended focus and its levels; (None, []) without one."""
    for series in everything:
        if series.kind == "ome" and series.name.lower() == _EXTENDED_FOCUS:
            found = _stored_levels(path, series, None, read_metadata(file, series, 1), (0,))
            if [level.shape for level in found] == [level.shape for level in levels]:
                return series, found
    return None, []


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
) -> _StoredLevel | None:
    level = series.levels[index]
    count = 1 if axis is None else level.get_shape(False)[axis]
    if count != len(order):
        return None
    page = level.keyframe
    _check_colour(path, page)
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
    store = series.aszarr(level=index, squeeze=False, fillvalue=255, maxworkers=_DECODER_THREADS)
    array = zarr.open_array(store, mode="r")
    return _StoredLevel(
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


def _area(page: Any) -> int:
    return int(page.imagelength) * int(page.imagewidth)


def _check_colour(path: Path, page: Any) -> None:
    """Refuse whatever is not 8-bit RGB, before any of it is decoded."""
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise not_rgb(path.name, f"{page.bitspersample}-bit values")
    rgb = page.photometric == _RGB or (page.photometric == _YCBCR and page.compression in _JPEG)
    if not rgb or page.samplesperpixel not in (3, 4) or "S" not in page.axes:
        kind = getattr(page.photometric, "name", "unknown").lower()
        raise not_rgb(path.name, f"an image of colour kind {kind}")


def _focus_axis(series: Any) -> int | None:
    """Return which axis counts focal planes: Z, or the one a plain file leaves unnamed."""
    axes, shape = series.get_axes(False), series.get_shape(False)
    for name in "ZIQ":
        found = [i for i, axis in enumerate(axes) if axis == name and shape[i] > 1]
        if found:
            return found[-1]
    return None


def _focus_order(
    heights: tuple[float, ...] | None, count: int
) -> tuple[tuple[int, ...], list[str]]:
    """Return where the planes are stored, from the lowest, and what is odd about them."""
    if heights is None:
        return tuple(range(count)), []
    if len(set(heights)) < count:
        return tuple(range(count)), [
            "Several focus layers claim the same height; they are shown in the order of the file."
        ]
    return tuple(sorted(range(count), key=lambda index: heights[index])), []


def _planes(metadata: TiffMetadata, order: Sequence[int]) -> list[FocalPlane]:
    heights = metadata.heights_um
    if heights is None or len(set(heights)) < len(order):
        return [FocalPlane(i, f"Plane {i + 1}") for i in range(len(order))]
    return [FocalPlane(i, f"Plane {i + 1}", heights[place]) for i, place in enumerate(order)]


def _not_shown(series: Any, axis: int | None, others: Sequence[Any]) -> list[str]:
    unseen = []
    for index, (name, size) in enumerate(
        zip(series.get_axes(False), series.get_shape(False), strict=True)
    ):
        if name not in "YXS" and index != axis and size > 1:
            unseen.append(f"{size - 1} of {size} {_AXES.get(name, 'further images')}")
    for other in others:
        if other.name.lower() not in _PICTURES:
            page = other.keyframe
            name = f" {other.name!r}" if other.name else ""
            unseen.append(f"image{name} of {page.imagewidth} x {page.imagelength} pixels")
    return unseen
