"""What an image's error is made of: by size of detail, in tone, and beyond the truth's range.

SSIM is one number, in which a gain in fine detail hides a loss in tone.  Here the error of the grey
values, ``0.299 R + 0.587 G + 0.114 B`` and not rounded, is split into three bands by Gaussians of
:data:`FINE_PX` and :data:`COARSE_PX`: what the first takes away, what lies between the two, and
what the second leaves.  They add up to the error.

All functions take two uint8 (Y, X, 3) images of one shape and leave ``border`` pixels at every side
out of the count; filters still look into them.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from napari_focusfuse.defocus import gaussian_blur
from napari_focusfuse.metrics import inside, luma
from napari_focusfuse.slide import UInt8Image

Float32Array = npt.NDArray[np.float32]

FINE_PX = 1.5
"""Sigma of the Gaussian below which detail is fine: the window of SSIM."""
COARSE_PX = 8.0
"""Sigma of the Gaussian above which a picture is tone: light, stain and thickness, not focus."""
RANGE_PX = 2
"""How far around a pixel the truth's range is taken: a window of 5 x 5."""

BANDS = MappingProxyType(
    {
        "fine": f"RMS error below sigma {FINE_PX:g} px, grey levels",
        "middle": f"RMS error from sigma {FINE_PX:g} to {COARSE_PX:g} px, grey levels",
        "coarse": f"RMS error above sigma {COARSE_PX:g} px, grey levels",
    }
)
"""Names of the bands and what each counts."""


def split(difference: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Split a (Y, X) picture into its fine, middle and coarse parts, which add up to it."""
    without_fine = gaussian_blur(difference[..., None], FINE_PX)[..., 0]
    coarse = _coarse(difference)
    return difference - without_fine, without_fine - coarse, coarse


def band_errors(image: UInt8Image, truth: UInt8Image, border: int = 0) -> dict[str, float]:
    """Return the RMS error of each of :data:`BANDS`, in grey levels."""
    parts = split(_grey_difference(image, truth))
    return {name: _rms(inside(part, border)) for name, part in zip(BANDS, parts, strict=True)}


def tone_change(image: UInt8Image, before: UInt8Image, border: int = 0) -> tuple[float, float]:
    """Return the largest and the RMS change of tone, above sigma 8 px, in grey levels."""
    coarse = inside(_coarse(_grey_difference(image, before)), border)
    return float(np.abs(coarse).max()), _rms(coarse)


def overshoot(image: UInt8Image, truth: UInt8Image, border: int = 0) -> float:
    """Return by how much colours leave the truth's range in the 5 x 5 pixels around, on average.

    In grey levels, over all colour values, those within the range counting as 0.
    """
    return float(inside(beyond_range(image, truth), border).mean())


def beyond_range(image: UInt8Image, truth: UInt8Image) -> npt.NDArray[np.int16]:
    """Return by how much each (Y, X, 3) value leaves the truth's range in the 5 x 5 around."""
    highest, lowest = _local(truth, np.maximum), _local(truth, np.minimum)
    values = image.astype(np.int16)
    beyond = np.maximum(values - highest, 0) + np.maximum(lowest - values, 0)
    return np.asarray(beyond, dtype=np.int16)


def _grey_difference(image: UInt8Image, other: UInt8Image) -> Float32Array:
    return luma(image.astype(np.float32) - other)


def _coarse(difference: Float32Array) -> Float32Array:
    return gaussian_blur(difference[..., None], COARSE_PX)[..., 0]


def _local(image: UInt8Image, extreme: np.ufunc) -> npt.NDArray[np.int16]:
    """Return the highest or lowest value within :data:`RANGE_PX` of each pixel; edges repeat."""
    found = image.astype(np.int16)
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (RANGE_PX, RANGE_PX)
        padded = np.pad(found, pad, mode="edge")
        length = image.shape[axis]
        shifted = (padded.take(range(i, i + length), axis) for i in range(2 * RANGE_PX + 1))
        found = next(shifted)
        for other in shifted:
            found = extreme(found, other)
    return found


def _rms(values: Float32Array) -> float:
    return float(np.sqrt(np.mean(values * values, dtype=np.float64)))
