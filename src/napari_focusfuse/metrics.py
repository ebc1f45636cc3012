"""How close an image is to its reference; every variant has its own name and definition.

All functions take two uint8 images of one shape, ``(Y, X, 3)`` RGB or ``(Y, X)`` grey.  Grey values
are ``0.299 R + 0.587 G + 0.114 B`` rounded to 8 bits.  ``border`` pixels at every side are left out
of the score: windowed measures still look into them, the others never see them.

Sources: Z. Wang et al., IEEE Trans. Image Process. 13 (2004) 600 (SSIM); formulas (7) to (11) of
the few-focus fusion paper (SSIM, CC and Q_MI); scikit-image and scikit-learn, to which the tests
compare.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from napari_focusfuse.joint_histogram import (
    C1,
    C2,
    IntTable,
    cc_of,
    joint_histogram,
    q_mi_of,
    ssim_global_of,
)
from napari_focusfuse.slide import FocusFuseError

UInt8Image = npt.NDArray[np.uint8]
FloatMap = npt.NDArray[np.float64]
Window = Literal["gaussian", "uniform"]

VARIANTS = MappingProxyType(
    {
        "SSIM-paper": "grey, 11x11 Gaussian window (sigma 1.5), biased moments, L = 255, map mean",
        "SSIM-sk": "grey, 7x7 uniform window, unbiased moments (scikit-image's default), L = 255",
        "SSIM-rgb": "as SSIM-paper on each colour channel, averaged",
        "SSIM-global": "the paper's formula (7) once over the grey image; never rank by it",
        "CC": "Pearson correlation of the grey values",
        "Q_MI": "2 I(X,Y) / (H(X) + H(Y)), grey, 256 bins, range 0 to 1",
        "PSNR": "10 log10(255^2 / MSE) in dB, MSE over all colour channels",
    }
)
"""Column names of :func:`score` and what each stands for; print it beside every figure."""

Number = TypeVar("Number", bound=np.generic)
"""What an array holds."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_TAPS = np.arange(-5, 6)
_GAUSSIAN = np.exp(-0.5 * (_TAPS / 1.5) ** 2)
_KERNELS: dict[Window, FloatMap] = {
    "gaussian": _GAUSSIAN / _GAUSSIAN.sum(),
    "uniform": np.full(7, 1 / 7),
}


class MetricError(FocusFuseError, ValueError):
    """Two images cannot be compared."""


def grey(image: UInt8Image) -> UInt8Image:
    """Return the grey values of an image, ``0.299 R + 0.587 G + 0.114 B``, rounded half up.

    Parameters
    ----------
    image
        (Y, X, 3) RGB, or (Y, X), which is returned as it is; uint8.

    Returns
    -------
    (Y, X) uint8 array
    """
    if image.ndim == 2:
        return image
    # Integers, so that no platform rounds a tie the other way.
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def luma(image: npt.NDArray[np.uint8 | np.float32]) -> npt.NDArray[np.float32]:
    """Return the grey values of a (Y, X, 3) image in its own units, not rounded."""
    return np.asarray(image @ _LUMA, dtype=np.float32)


def ssim_map(image: UInt8Image, reference: UInt8Image, window: Window = "gaussian") -> FloatMap:
    """Return the structural similarity around every pixel of the grey images.

    Parameters
    ----------
    image, reference
        uint8, (Y, X, 3) or (Y, X), no side shorter than the window.
    window
        ``"gaussian"`` (11x11, sigma 1.5, biased moments) or ``"uniform"`` (7x7, unbiased moments).

    Returns
    -------
    (Y, X) float64 array in [-1, 1]; outside the image both are mirrored, so the outermost 5 (3)
    pixels are less certain, and :func:`ssim_paper` and :func:`ssim_sk` leave them out

    Raises
    ------
    MetricError
        If the images differ in shape or dtype, or are smaller than the window.
    """
    _check(image, reference, 0, window_radius(window))
    return channel_ssim_map(grey(image), grey(reference), window)


def ssim_paper(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return SSIM as Wang et al. define it; see ``VARIANTS["SSIM-paper"]``.

    At least 5 pixels are left out at each side, where windows would leave the image.
    """
    border = _check(image, reference, border, window_radius("gaussian"))
    return _mean_inside(ssim_map(image, reference), border)


def ssim_sk(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return SSIM with scikit-image's defaults; see ``VARIANTS["SSIM-sk"]``.

    At least 3 pixels are left out at each side, where windows would leave the image.
    """
    border = _check(image, reference, border, window_radius("uniform"))
    return _mean_inside(ssim_map(image, reference, "uniform"), border)


def ssim_rgb(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return the mean over the colour channels of :func:`ssim_paper` on each."""
    border = _check(image, reference, border, window_radius("gaussian"))
    if image.ndim == 2:
        return ssim_paper(image, reference, border)
    maps = (
        channel_ssim_map(image[..., channel], reference[..., channel], "gaussian")
        for channel in range(3)
    )
    return float(np.mean([_mean_inside(channel_map, border) for channel_map in maps]))


def ssim_global(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return the paper's formula (7) applied once to the whole grey image."""
    return ssim_global_of(_joint_inside(image, reference, border))


def cc(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return Pearson's correlation of the grey values, formula (8); NaN if an image is flat."""
    return cc_of(_joint_inside(image, reference, border))


def q_mi(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return the normalised mutual information of the grey values, formulas (9) to (11).

    Equal to scikit-learn's ``normalized_mutual_info_score``: its default is the arithmetic mean of
    the entropies, and two flat images score 1.
    """
    return q_mi_of(_joint_inside(image, reference, border))


def psnr_of(squares: int, count: int) -> float:
    """Return :func:`psnr` from the sum of ``count`` squared differences."""
    return 10 * math.log10(255**2 * count / squares) if squares else float("inf")


def psnr(image: UInt8Image, reference: UInt8Image, border: int = 0) -> float:
    """Return the peak signal-to-noise ratio in dB over all channels; infinite for equal images."""
    _check(image, reference, border)
    difference = inside(image, border).astype(np.int32) - inside(reference, border)
    return psnr_of(int(np.sum(difference * difference, dtype=np.int64)), difference.size)


def score(image: UInt8Image, reference: UInt8Image, border: int = 0) -> dict[str, float]:
    """Score an image in every variant.

    Parameters
    ----------
    image, reference
        uint8, (Y, X, 3) or (Y, X).
    border
        Pixels left out at each side.

    Returns
    -------
    dict
        One figure for each name of :data:`VARIANTS`, in that order.  ``PSNR`` is infinite for equal
        images and ``CC`` NaN for flat ones.

    Raises
    ------
    MetricError
        If the images differ in shape or dtype, or nothing is left inside the border.
    """
    measures = (ssim_paper, ssim_sk, ssim_rgb, ssim_global, cc, q_mi, psnr)
    return {
        name: measure(image, reference, border)
        for name, measure in zip(VARIANTS, measures, strict=True)
    }


def window_radius(window: Window) -> int:
    """Return how many pixels a window looks to each side."""
    return len(_KERNELS[window]) // 2


def _check(image: UInt8Image, reference: UInt8Image, border: int, radius: int = 0) -> int:
    """Return how many pixels to leave out at each side, if two images can be compared so."""
    for name, array in (("image", image), ("reference", reference)):
        if array.dtype != np.uint8:
            raise MetricError(f"The {name} holds {array.dtype} values; convert it to uint8 first.")
        if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
            raise MetricError(
                f"The {name} has shape {array.shape}; give an RGB (Y, X, 3) or grey (Y, X) image."
            )
    if image.shape != reference.shape:
        raise MetricError(
            f"The image has shape {image.shape} and the reference {reference.shape}; crop both to "
            "the part they share, or register them."
        )
    if border < 0:
        raise MetricError(f"A border of {border} pixels is impossible; give 0 or more.")
    left_out = max(border, radius)
    if min(image.shape[:2]) <= 2 * left_out:
        raise MetricError(
            f"An image of {image.shape[1]} x {image.shape[0]} pixels is too small to be compared "
            f"with {left_out} pixels left out at each side; compare a larger part."
        )
    return left_out


def channel_ssim_map(x: UInt8Image, y: UInt8Image, window: Window) -> FloatMap:
    """Return the (Y, X) SSIM map of one channel, both (Y, X) uint8; nothing is checked."""
    kernel = _KERNELS[window]
    # scikit-image's default estimates moments from a sample of 49 pixels; Wang's are biased.
    unbiased = kernel.size**2 / (kernel.size**2 - 1) if window == "uniform" else 1.0
    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b = _smooth(a, kernel), _smooth(b, kernel)
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    covariance = unbiased * (_smooth(a * b, kernel) - product)
    # Both variances only occur as a sum, which saves one of five filters.
    variances = unbiased * (_smooth(a * a + b * b, kernel) - squares)
    similarity = (2 * product + C1) * (2 * covariance + C2)
    similarity /= (squares + C1) * (variances + C2)
    return similarity


def _smooth(channel: FloatMap, kernel: FloatMap) -> FloatMap:
    """Filter rows and columns with one kernel; the image is mirrored at its edges."""
    padded = np.pad(channel, kernel.size // 2, mode="symmetric")
    columns = sliding_window_view(padded, kernel.size, axis=0) @ kernel
    filtered: FloatMap = sliding_window_view(columns, kernel.size, axis=1) @ kernel
    return filtered


def _joint_inside(image: UInt8Image, reference: UInt8Image, border: int) -> IntTable:
    _check(image, reference, border)
    return joint_histogram(inside(grey(image), border), inside(grey(reference), border))


def inside(array: npt.NDArray[Number], border: int) -> npt.NDArray[Number]:
    """Return a (Y, X) or (Y, X, C) array without ``border`` pixels at every side."""
    return array[border : array.shape[0] - border, border : array.shape[1] - border]


def _mean_inside(similarity: FloatMap, border: int) -> float:
    return float(inside(similarity, border).mean())
