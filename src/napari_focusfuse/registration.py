"""Where one picture lies over another of the same scale.

Also the two steps around that: averaging a picture onto coarser pixels, and cutting out what two
shifted pictures have in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_focusfuse.metrics import grey
from napari_focusfuse.slide import FocusFuseError, UInt8Image

MIN_PEAK = 25.0
"""Lowest peak at which a placement found by :func:`register` can be trusted.

Measured on 19 photomicrographs (smears, liquid-based preparations, a stack of five planes), in
squares of 128 to 512 px.  Of 1449 pairs that show different places half stayed below 9, 99 % below
20, and two reached 25 (the highest 27).  Of pairs that show the same place, one blurred (up to
sigma 8 px here and there), toned and saved as JPEG 75, the lowest had 36 with 60 % of 512 px in
common and 16 with 30 %; blurred by sigma 3 px all over, 30 with half of 512 px and 23 with 60 % of
256 px.  The planes of the stack, defocused against each other, had 26 or more.  What falls short
needs a shift by hand, which is better than a figure for the wrong place.
"""

_REGISTRATION_PIXELS = 1 << 21
_REFINEMENT_SIDE = 1024
_SMALLEST = 16
_LOW_PASS = 0.08
"""Cycles per pixel; below the 8 px blocks of JPEG, which coincide in any two files."""


class ComparisonError(FocusFuseError, ValueError):
    """Two pictures cannot be compared as they are."""


@dataclass(frozen=True)
class Registration:
    """Where a reference lies, found by phase correlation."""

    shift: tuple[int, int]
    """(y, x) pixels from the image's first pixel to the reference's."""
    peak: float
    """Height of the correlation peak over the root mean square of all other places; a placement
    below :data:`MIN_PEAK` may be chance."""


def register(image: UInt8Image, reference: UInt8Image) -> Registration:
    """Find where a reference of the same scale lies over an image, by phase correlation.

    Kuglin & Hines, Proc. IEEE Conf. Cybernetics and Society (1975) 163, with tapered edges and a
    Gaussian low-pass, since high frequencies of a blurred or compressed picture are noise.  Large
    pictures are placed on a reduced copy, then corrected on a part at full size.

    Parameters
    ----------
    image, reference
        (Y, X, 3) or (Y, X) uint8, not necessarily of one size.

    Returns
    -------
    Registration
        With whatever peak was highest: compare it to :data:`MIN_PEAK`.
    """
    x, y = grey(image), grey(reference)
    factor = math.ceil(math.sqrt(max(x.size, y.size) / _REGISTRATION_PIXELS))
    if factor <= 1:
        return _phase_correlation(x, y)
    coarse = _phase_correlation(*(area_mean(array, (0, 0), (factor, factor)) for array in (x, y)))
    rough = (coarse.shift[0] * factor, coarse.shift[1] * factor)
    parts = [_middle(array, _REFINEMENT_SIDE) for array in overlap(x, y, rough)]
    if min(parts[0].shape) < _SMALLEST:
        return replace(coarse, shift=rough)
    fine = _phase_correlation(*parts).shift
    if max(map(abs, fine)) > 2 * factor:  # nothing to hold on to in the middle
        return replace(coarse, shift=rough)
    return replace(coarse, shift=(rough[0] + fine[0], rough[1] + fine[1]))


def area_mean(array: UInt8Image, start: Sequence[float], size: Sequence[float]) -> UInt8Image:
    """Return the mean over cells of ``size`` (y, x) pixels, at least 1, from ``start`` on."""
    if tuple(size) == (1, 1):
        return array
    values = array.astype(np.float64)
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        count = int((len(values) - start[axis]) / size[axis] + 1e-6)
        if count < 1:
            raise ComparisonError(
                "One picture is smaller than a pixel of the other; compare pictures of similar "
                "scale."
            )
        edges = np.minimum(start[axis] + size[axis] * np.arange(count + 1), len(values))
        whole = np.minimum(edges.astype(np.int64), len(values) - 1)
        part = (edges - whole).reshape(-1, *[1] * (values.ndim - 1))
        # The integral of the pixels up to each edge; differences of it are the cells' sums.
        below = np.cumsum(values, axis=0) - values
        integral = below[whole] + part * values[whole]
        values = np.moveaxis(np.diff(integral, axis=0) / size[axis], 0, axis)
    rounded: UInt8Image = np.floor(values + 0.5).astype(np.uint8)
    return rounded


def overlap(
    image: UInt8Image, reference: UInt8Image, shift: tuple[int, int]
) -> tuple[UInt8Image, UInt8Image]:
    """Return the pixels two arrays have in common, the second lying ``shift`` off the first."""
    inner, outer = [], []
    for axis in (0, 1):
        start = max(shift[axis], 0)
        stop = max(start, min(image.shape[axis], shift[axis] + reference.shape[axis]))
        inner.append(slice(start, stop))
        outer.append(slice(start - shift[axis], stop - shift[axis]))
    return image[tuple(inner)], reference[tuple(outer)]


def _middle(array: UInt8Image, side: int) -> UInt8Image:
    y, x = (max(0, (length - side) // 2) for length in array.shape)
    return array[y : y + side, x : x + side]


def _phase_correlation(image: UInt8Image, reference: UInt8Image) -> Registration:
    """Register two (Y, X) arrays; see :func:`register`."""
    if min(np.ptp(image), np.ptp(reference)) == 0:
        return Registration((0, 0), 0.0)  # one of them is flat
    # Room for every shift, so that nothing wraps around; multiples of 128 transform fast.
    shape = [-(-(a + b) // 128) * 128 for a, b in zip(image.shape, reference.shape, strict=True)]
    cross = np.fft.rfft2(_tapered(image), shape) * np.fft.rfft2(_tapered(reference), shape).conj()
    magnitude = np.abs(cross)
    cross /= np.maximum(magnitude, 1e-6 * magnitude.max())
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    cross *= np.exp(-0.5 * (rows**2 + columns**2) / _LOW_PASS**2).astype(np.float32)
    surface = np.fft.irfft2(cross, shape)
    place = np.unravel_index(int(np.argmax(surface)), surface.shape)
    y, x = (
        int(at) if at < length else int(at) - period
        for at, length, period in zip(place, image.shape, shape, strict=True)
    )
    return Registration((y, x), float(surface[place] / np.sqrt(np.mean(surface**2))))


def _tapered(array: UInt8Image) -> npt.NDArray[np.float32]:
    """Return an array without its mean, fading to 0 over a tenth of its length at each edge."""
    window = np.outer(*(_taper(length) for length in array.shape))
    mean = float(np.sum(array * window) / window.sum())
    tapered: npt.NDArray[np.float32] = ((array - mean) * window).astype(np.float32)
    return tapered


def _taper(length: int) -> npt.NDArray[np.float64]:
    """Return a Hann window stretched by a plateau over the middle 80 %.

    A plain Hann window would hide common ground at the pictures' edges: shifts of half their size
    were then missed.
    """
    ramp = max(1, length // 10)
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    taper: npt.NDArray[np.float64] = 0.5 - 0.5 * np.cos(np.pi * np.minimum(distance / ramp, 1))
    return taper
