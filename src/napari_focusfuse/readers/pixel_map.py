"""Maps: files of one value per pixel, such as a blur mask or a depth map, as our writer makes them.

They are no slides: there is nothing to fuse in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import MAX_REGION_PIXELS, Region, RegionError, UnsupportedSlideError
from napari_focusfuse.slide_array import index_axis

from .faults import told
from .ome_zarr import zarr_map
from .segments import guard
from .tiff_header import check_tiff
from .tiff_metadata import check_ome, read_metadata

_GREY = 1
_ALL = slice(None)


@dataclass(frozen=True)
class MapLevel:
    """One level of a map: a lazy (Y, X) array; any part of it is read when it is indexed."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    chunks: tuple[int, int]
    read: Callable[[Region], npt.NDArray[Any]] = field(repr=False)
    ndim: int = 2

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [_ALL] * (3 - len(keys))
        if len(keys) > 2:
            raise IndexError(f"{len(keys)} indices for an array of 2 axes.")
        keys += [_ALL] * (2 - len(keys))
        rows, columns = (index_axis(*pair) for pair in zip(keys, self.shape, strict=True))
        window = Region(
            rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
        )
        if window.height * window.width > MAX_REGION_PIXELS:
            raise RegionError(
                f"{window.width} x {window.height} values are too many to read at once; at most "
                f"{MAX_REGION_PIXELS >> 20} million can be."
            )
        if not window.height or not window.width:
            return np.empty((window.height, window.width), self.dtype)[rows.after, columns.after]
        values: npt.NDArray[Any] = np.asarray(self.read(window))[rows.after, columns.after]
        return values

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("A map is read from its file, so its values are always a copy.")
        values = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)


@dataclass(frozen=True)
class PixelMap:
    """An open map.  Close it, or use it as a context manager."""

    path: Path
    levels: tuple[MapLevel, ...]
    """Largest first."""
    mpp: tuple[float, float] | None
    """(y, x) micrometres per pixel of level 0, or None where the file does not say."""
    close: Callable[[], None] = field(repr=False, default=lambda: None)
    """Releases the file; the map cannot be read afterwards."""

    def __enter__(self) -> PixelMap:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_map(path: str | Path) -> PixelMap:
    """Open an OME-TIFF or OME-Zarr of one uint8 or float32 value per pixel.

    Raises
    ------
    SlideError
        If it is damaged, or is no map (UnsupportedSlideError).
    """
    path = Path(path)
    with told(path):
        return _open_zarr(path) if path.is_dir() else _open_tiff(path)


def _open_zarr(path: Path) -> PixelMap:
    arrays, mpp = zarr_map(path)

    def level(array: Any) -> MapLevel:
        def read(part: Region) -> npt.NDArray[Any]:
            with told(path):
                values: npt.NDArray[Any] = array.read(
                    [(part.y, part.stop_y), (part.x, part.stop_x)]
                )
                return values

        return MapLevel(array.shape, array.dtype, array.chunk, read)

    return PixelMap(path, tuple(map(level, arrays)), mpp)


def _open_tiff(path: Path) -> PixelMap:
    from tifffile import TiffFile

    check_tiff(path)
    file = TiffFile(path, _multifile=False)
    try:
        check_ome(path, file)
        series = file.series[0]
        for level in series.levels:
            _check_grey(path, level.keyframe)
            guard(level.keyframe, path)
        levels = tuple(_tiff_level(path, series, index) for index in range(len(series.levels)))
        return PixelMap(path, levels, read_metadata(file, series, 1).mpp, file.close)
    except BaseException:
        file.close()
        raise


def _tiff_level(path: Path, series: Any, index: int) -> MapLevel:
    import zarr

    array = zarr.open_array(series.aszarr(level=index, maxworkers=1), mode="r")

    def read(part: Region) -> npt.NDArray[Any]:
        with told(path):
            return np.asarray(array[part.y : part.stop_y, part.x : part.stop_x])

    return MapLevel(array.shape, array.dtype, array.chunks, read)


def _check_grey(path: Path, page: Any) -> None:
    kind = page.dtype in (np.uint8, np.float32) and page.bitspersample in (8, 32)
    if not kind or page.photometric != _GREY or page.samplesperpixel != 1 or page.axes != "YX":
        raise UnsupportedSlideError(f"{path.name} is no map of one value per pixel; open a slide.")
