"""TIFF stacks: OME-TIFF, plain multi-page z, Hamamatsu NDPI, Aperio with focal planes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

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
from .decoded import DecodedPlanes
from .faults import damaged, told
from .segments import guard
from .tiff_header import check_tiff
from .tiff_level import StoredLevel, check_colour, stored_levels
from .tiff_metadata import TiffMetadata, check_ome, icc_profile, read_metadata, unpaged_images
from .unchanged import Unchanged

# What is wrong with a file is told by us, in a sentence; its own words go to who asks for them.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_PICTURES = ("label", "macro", "thumbnail")
_EXTENDED_FOCUS = "extended focus"
"""Name of the OME image, of the same size as the planes, that a scanner fused from them."""
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
        series = max(everything, key=_size)
        check_colour(path, series.keyframe)
        axis = _focus_axis(series)
        count = 1 if axis is None else series.get_shape(False)[axis]
        if count > _MAX_PLANES:
            raise damaged(path, f"it claims {count} focus layers")
        metadata = read_metadata(file, series, count)
        order, warnings = _focus_order(metadata.heights_um, count)
        if file.ome_metadata and series.kind != "ome":
            warnings.append("The OME description is damaged, so sizes and heights are unknown.")
        self._file = file
        self._unchanged = Unchanged(path)
        self._decoded = DecodedPlanes()
        self._levels = stored_levels(path, series, axis, metadata, order)
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
            icc_profile=icc_profile(series.keyframe),
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
        self._decoded.clear()
        self._file.close()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        with told(self.path):
            if self._file.filehandle.closed:
                raise SlideError(f"{self.path.name} is closed; open it again.")
            self._unchanged.check()
            fused = plane == self.extended
            stored = (self._extended if fused else self._levels)[level]
            pixels = self._pixels(stored, 0 if fused else plane.index, region)
            return over(pixels, self.background, premultiplied=stored.premultiplied)

    def _pixels(self, stored: StoredLevel, plane: int, region: Region) -> UInt8Image:
        if not stored.one_segment:
            return stored.read(plane, region)
        whole = Region(0, 0, *stored.shape)
        image = self._decoded.get((id(stored), plane), lambda: stored.read(plane, whole))
        return image[region.y : region.stop_y, region.x : region.stop_x]

    def _picture(self, name: str) -> UInt8Image:
        with told(self.path):
            page = self._pictures[name].keyframe
            check_colour(self.path, page)
            guard(page, self.path)
            return over(np.asarray(page.asarray()), self.background)


def _extended_levels(
    path: Path, file: Any, everything: Sequence[Any], levels: Sequence[StoredLevel]
) -> tuple[Any, list[StoredLevel]]:
    """Return the series that holds the extended focus and its levels; (None, []) without one."""
    for series in everything:
        if series.kind == "ome" and series.name.lower() == _EXTENDED_FOCUS:
            found = stored_levels(path, series, None, read_metadata(file, series, 1), (0,))
            if [level.shape for level in found] == [level.shape for level in levels]:
                return series, found
    return None, []


def _size(series: Any) -> tuple[int, bool]:
    """Return what makes a series the main one: its area, and not to be the fused plane."""
    page = series.keyframe
    return int(page.imagelength) * int(page.imagewidth), series.name.lower() != _EXTENDED_FOCUS


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
    unpaged = unpaged_images(series.keyframe)
    if axis is None and len(series.pages) == 1 and unpaged:
        unseen.append(f"{unpaged} images without a page of their own")
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
