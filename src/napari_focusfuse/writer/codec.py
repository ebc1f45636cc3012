"""From the pixels of a tile to the bytes a TIFF holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .output import OutputError
from .pyramid import PyramidSpec

JPEG_QUALITY = 90
_ZSTD_LEVEL = 3
_DEFLATE_LEVEL = 6


def encode_tile(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.float32], spec: PyramidSpec
) -> bytes:
    """Encode one tile; the same pixels give the same bytes, in any thread.

    Parameters
    ----------
    pixels
        (Y, X, 3) or (Y, X) array of the type of ``spec``, at most a tile.  The last tile of a row
        or column may be smaller: it is filled up by its last pixels, as JPEG would smear black
        into the picture.

    Returns
    -------
    One compressed tile, of ``spec.tile`` pixels on each side

    Raises
    ------
    OutputError
        If the array does not fit ``spec``.
    """
    import imagecodecs

    tile = _filled(pixels, spec)
    if spec.compression == "jpeg":
        # YCbCr 4:2:0: the one form of JPEG that OpenSlide, Bio-Formats and tifffile all read with
        # the right colours.
        return bytes(
            imagecodecs.jpeg8_encode(
                tile,
                level=JPEG_QUALITY,
                colorspace="RGB",
                outcolorspace="YCBCR",
                subsampling=(2, 2),
            )
        )
    if has_predictor(spec):
        tile = imagecodecs.delta_encode(tile, axis=1)
    data = np.ascontiguousarray(tile, dtype=tile.dtype.newbyteorder("<")).tobytes()
    if spec.compression == "zstd":
        return bytes(imagecodecs.zstd_encode(data, level=_ZSTD_LEVEL))
    return bytes(imagecodecs.zlib_encode(data, level=_DEFLATE_LEVEL))


def has_predictor(spec: PyramidSpec) -> bool:
    """Tell whether tiles hold differences between neighbours instead of values.

    Floats do not: Bio-Formats knows no predictor for them.
    """
    return spec.compression != "jpeg" and spec.dtype == "uint8"


def _filled(pixels: npt.NDArray[Any], spec: PyramidSpec) -> npt.NDArray[Any]:
    missing = [(0, spec.tile - side) for side in pixels.shape[:2]]
    fits = pixels.dtype == spec.dtype and pixels.shape[2:] == spec.shape(0)[2:]
    if not fits or pixels.ndim < 2 or not pixels.size or min(after for _, after in missing) < 0:
        raise OutputError(
            f"A tile holds {pixels.dtype} values of shape {pixels.shape}; at most {spec.tile} x "
            f"{spec.tile} pixels of {spec.samples} {spec.dtype} values are needed."
        )
    if missing == [(0, 0), (0, 0)]:
        return np.ascontiguousarray(pixels)
    return np.pad(pixels, [*missing, (0, 0)][: pixels.ndim], mode="edge")
