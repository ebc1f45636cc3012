"""Slides made of arrays: any RGB image, in memory or lazy, with or without a z axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_focusfuse.slide import FocalPlane, Level, Region, Slide, SlideError, UInt8Image

from .alpha import over
from .faults import not_rgb, told


class ArraySlide(Slide):
    """An RGB array, or a pyramid of them, as a slide.

    Parameters
    ----------
    data
        (Y, X, 3 | 4) or (Z, Y, X, 3 | 4) uint8 array with z increasing, or a sequence of such
        arrays, largest first.  NumPy, dask, zarr, or whatever has ``shape``, ``dtype`` and
        ``__getitem__``; only the regions that are read are ever sliced.
    name
        What messages call the slide.
    mpp
        (y, x) micrometres per pixel of level 0.
    z_um
        Height of each plane in micrometres, increasing.
    zero
        Index of the plane that counts as layer 0.

    Raises
    ------
    UnsupportedSlideError
        If the array is not 8-bit RGB.
    SlideError
        If shapes do not fit together.
    """

    format = "array"

    def __init__(
        self,
        data: Any,
        *,
        name: str = "image",
        mpp: tuple[float, float] | None = None,
        z_um: Sequence[float] | None = None,
        zero: int | None = None,
    ) -> None:
        arrays = list(data) if isinstance(data, Sequence) else [data]
        if not arrays:
            raise SlideError(f"{name} holds no array; give one array, or one for each level.")
        for array in arrays:
            _check(array, name, len(arrays[0].shape))
        self._arrays = arrays
        self._stacked = len(arrays[0].shape) == 4
        count = int(arrays[0].shape[0]) if self._stacked else 1
        if any(int(array.shape[0]) != count for array in arrays if self._stacked):
            raise SlideError(f"{name} has levels of unequal depth; give all the same planes.")
        if z_um is not None and (len(z_um) != count or any(np.diff(np.array(z_um)) <= 0)):
            raise SlideError(f"{name} has {count} planes; give as many increasing z_um, or none.")
        heights = [None] * count if z_um is None else [float(z) for z in z_um]
        shapes = [(int(a.shape[-3]), int(a.shape[-2])) for a in arrays]
        super().__init__(
            Path(name),
            planes=[FocalPlane(i, f"Plane {i + 1}", z) for i, z in enumerate(heights)],
            levels=[Level.under(shapes[0], shape) for shape in shapes],
            zero=zero,
            mpp=mpp,
        )

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return the chunk of the array where it has one, else 512 x 512."""
        chunks = getattr(self._arrays[level], "chunksize", None)  # dask
        if chunks is None:
            chunks = getattr(self._arrays[level], "chunks", None)  # zarr
        if chunks is None or not all(isinstance(side, int) for side in chunks):
            return super().tile_hint(level)
        return int(chunks[-3]), int(chunks[-2])

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        window = (slice(region.y, region.stop_y), slice(region.x, region.stop_x))
        index = (plane.index, *window) if self._stacked else window
        with told(self.path):
            return over(np.asarray(self._arrays[level][index], dtype=np.uint8), self.background)


def _check(array: Any, name: str, dimensions: int) -> None:
    shape = tuple(array.shape)
    if array.dtype != np.uint8:
        raise not_rgb(name, f"{array.dtype} values")
    if len(shape) not in (3, 4) or shape[-1] not in (3, 4):
        raise not_rgb(name, f"an array of shape {shape} instead of (Z, Y, X, 3) or (Y, X, 3)")
    if len(shape) != dimensions:
        raise SlideError(f"{name} has levels with and without a z axis; give all the same axes.")
