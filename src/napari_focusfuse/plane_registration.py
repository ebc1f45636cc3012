"""How the focal planes of one stack lie over each other, and planes moved so that they agree.

A stage that drifts shifts the planes, and focusing changes their scale a little.  Both are found
to a fraction of a pixel; rotation is not looked for, since nothing turns between two planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .plane_transform import Float32Image, PlaneTransform, resample
from .registration import MIN_PEAK, register
from .slide import FocusFuseError, Region

MAX_SHIFT = 64.0
"""Most pixels a plane may be shifted; more is another field, or another problem."""
MAX_SHIFT_SHARE = 0.02
"""Most of the shorter side that a plane may be shifted."""
MAX_SCALE = 0.01
"""Most that a plane's scale may differ from the middle plane's."""
STILL = 0.05
"""Pixels at the corners up to which a plane counts as aligned and keeps its very values."""

_BANDS = (8.0, 4.0, 2.0)
"""Sigma in pixels of the band-passes, one after the other: coarse ones reach far, fine ones end
exact.  Nothing finer, since that is what differs between planes of different blur."""
MAX_PIXELS = 1 << 20
"""Pixels of a plane that are registered; larger planes are averaged, a few rows at a time."""

_ROWS = 128
_SMALLEST = 16
_STEPS = 30
_SETTLED = 0.002
_MIN_CORRELATION = 0.1


class RegistrationError(FocusFuseError, ValueError):
    """Focal planes lie too far from each other to be registered."""


def register_planes(
    stack: Float32Image, full: tuple[int, int], downsample: tuple[float, float] = (1.0, 1.0)
) -> tuple[PlaneTransform, ...]:
    """Find how each plane of a stack lies against the middle one.

    Neighbours look most alike, so each plane is registered against its neighbour towards the
    middle, by phase correlation and then by maximising the enhanced correlation coefficient
    (Evangelidis & Psarakis, IEEE TPAMI 30 (2008) 1858) of band-passed pictures; what is found is
    composed from the middle outward.

    Parameters
    ----------
    stack
        (Z, Y, X) float32 grey planes of one level.
    full
        (height, width) of the full size in pixels.
    downsample
        (y, x) pixels of the full size for one of ``stack``.

    Returns
    -------
    One transform per plane, in pixels of the full size; the middle plane's is the identity, and
    so is that of a plane that would move by no more than :data:`STILL` pixels of ``stack``.

    Raises
    ------
    RegistrationError
        If a plane lies further off than :data:`MAX_SHIFT`, :data:`MAX_SHIFT_SHARE` and
        :data:`MAX_SCALE` allow.
    """
    middle = len(stack) // 2
    found = {middle: PlaneTransform()}
    for z in (*range(middle + 1, len(stack)), *range(middle - 1, -1, -1)):
        near = z - 1 if z > middle else z + 1
        step = _register_pair(stack[z], stack[near])
        in_full = PlaneTransform(
            step.scale, step.y * downsample[0], step.x * downsample[1], step.found
        )
        found[z] = found[near].then(in_full)
        _check_bounds(found[z], z, full)
    still = STILL * max(downsample)
    return tuple(
        move if move.reach(full) > still else PlaneTransform(found=move.found)
        for _, move in sorted(found.items())
    )


def reduction(shape: tuple[int, int]) -> int:
    """Return by what a (height, width) plane is divided to be registered."""
    return math.ceil(math.sqrt(max(1.0, shape[0] * shape[1] / MAX_PIXELS)))


def read_grey(
    read: Callable[[Region], npt.NDArray[Any]], shape: tuple[int, int], factor: int
) -> Float32Image:
    """Return a plane as grey means of ``factor`` x ``factor`` pixels, remainders dropped.

    Parameters
    ----------
    read
        Reads a region inside the plane: (height, width) or (height, width, channels).
    shape
        (height, width) of the plane.
    """
    height, width = (side // factor for side in shape)
    grey = np.empty((height, width), np.float32)
    for y in range(0, height, _ROWS):
        count = min(_ROWS, height - y)
        part = read(Region(y * factor, 0, count * factor, width * factor))
        cells = part.reshape(count, factor, width, factor, -1)
        grey[y : y + count] = cells.mean(axis=(1, 3, 4), dtype=np.float32)
    return grey


def stayed(transforms: Sequence[PlaneTransform]) -> list[str]:
    """Return a sentence for each plane for which no better place was found."""
    return [
        f"Plane {z} did not agree better with its neighbour anywhere else; it was left as it lies."
        for z, move in enumerate(transforms)
        if not move.found
    ]


def _check_bounds(move: PlaneTransform, z: int, full: tuple[int, int]) -> None:
    most = min(MAX_SHIFT, MAX_SHIFT_SHARE * min(full))
    if max(abs(move.y), abs(move.x)) > most or abs(move.scale - 1) > MAX_SCALE:
        raise RegistrationError(
            f"Plane {z} lies {move.y:.1f} px down and {move.x:.1f} px right of the middle plane, "
            f"scaled by {move.scale:.4f}, and at most {most:.0f} px and {MAX_SCALE:.0%} can be "
            "registered; align the planes roughly first, or fuse them unregistered."
        )


def _register_pair(image: Float32Image, reference: Float32Image) -> PlaneTransform:
    """Register a (Y, X) plane against its neighbour, in their own pixels."""
    if min(image.shape) < _SMALLEST:
        return PlaneTransform(found=False)
    coarse = register(_bytes(reference), _bytes(image))
    start = PlaneTransform()
    if coarse.peak >= MIN_PEAK:
        # The image's first pixel lies there in the reference, so its content lies the other way.
        start = PlaneTransform(y=-coarse.shift[0], x=-coarse.shift[1])
    moved, before = start, 0.0
    for sigma in _BANDS:
        pair = _Pair(_band(image, sigma), _band(reference, sigma), int(4 * sigma))
        moved, after = pair.refined(moved)
        before = pair.correlation(PlaneTransform())
    better = after >= max(before, _MIN_CORRELATION)
    return moved if better else PlaneTransform(found=False)


def _bytes(plane: Float32Image) -> npt.NDArray[np.uint8]:
    """Return a plane stretched over a byte as (Y, X) uint8."""
    low, span = float(plane.min()), float(np.ptp(plane)) or 1.0
    stretched: npt.NDArray[np.uint8] = np.rint((plane - low) * (255 / span)).astype(np.uint8)
    return stretched


def _band(plane: Float32Image, sigma: float) -> Float32Image:
    """Return the difference of two Gaussian blurs, of ``sigma`` and twice that."""
    pad = int(4 * sigma)
    padded = np.pad(plane, pad, mode="symmetric")
    rows, columns = np.fft.fftfreq(padded.shape[0])[:, None], np.fft.rfftfreq(padded.shape[1])
    exponent = -2 * np.pi**2 * sigma**2 * (rows**2 + columns**2)
    kept = (np.exp(exponent) - np.exp(4 * exponent)).astype(np.float32)
    band = np.fft.irfft2(np.fft.rfft2(padded) * kept, padded.shape)[pad:-pad, pad:-pad]
    return np.asarray(band, dtype=np.float32)


class _Pair:
    """Two band-passed planes, and how well they agree under a transform."""

    def __init__(self, image: Float32Image, reference: Float32Image, margin: int) -> None:
        self.shape = (image.shape[0], image.shape[1])
        self._image = np.stack([image, *np.gradient(image)], axis=-1)
        height, width = (side - 2 * min(margin, side // 4) for side in self.shape)
        y, x = ((a - b) // 2 for a, b in zip(self.shape, (height, width), strict=True))
        self._region = Region(y, x, height, width)
        self._reference = reference[y : y + height, x : x + width]
        self._down, self._right = (
            np.arange(start, start + count) + 0.5 - side / 2
            for start, count, side in zip((y, x), (height, width), self.shape, strict=True)
        )

    def correlation(self, move: PlaneTransform) -> float:
        """Return Pearson's correlation of what both planes show."""
        warped, reference, _ = self._warped(move)
        return _correlation(warped, reference)

    def refined(self, move: PlaneTransform) -> tuple[PlaneTransform, float]:
        """Return the best transform near ``move`` and its correlation (the paper's FA-ECC)."""
        best, highest = move, self.correlation(move)
        for _ in range(_STEPS):
            warped, reference, slopes = self._warped(move)
            step = _ecc_step(warped, reference, slopes)
            if step is None:
                break
            corner = max(self.shape) / 2
            move = PlaneTransform(
                move.scale + float(step[0]) / corner,
                move.y + float(step[1]),
                move.x + float(step[2]),
            )
            if move.reach(self.shape) > max(self.shape) / 4:
                break  # it runs away
            correlation = self.correlation(move)
            if correlation > highest:
                best, highest = move, correlation
            if np.abs(step).max() < _SETTLED:
                break
        return best, highest

    def _warped(self, move: PlaneTransform) -> tuple[Float32Image, Float32Image, Float32Image]:
        """Return both planes as flat vectors of mean 0, and the slopes (N, 3) by scale, y and x."""
        rows, columns = move.positions(self._region, self.shape, (1.0, 1.0))
        inside_rows, inside_columns = (
            (at >= 0) & (at <= side - 1)
            for at, side in zip((rows, columns), self.shape, strict=True)
        )
        values = resample(self._cut, self.shape, rows[inside_rows], columns[inside_columns])
        reference = self._reference[np.ix_(inside_rows, inside_columns)].reshape(-1)
        down, right = self._down[inside_rows, None], self._right[inside_columns]
        by_y, by_x = values[..., 1], values[..., 2]
        # Scale is counted in pixels at the edge, so that all three have one unit.
        by_scale = (by_y * down + by_x * right) / (max(self.shape) / 2)
        slopes = np.stack([by_scale, by_y, by_x], axis=-1).reshape(-1, 3)
        warped = values[..., 0].reshape(-1)
        return (
            warped - warped.mean(),
            reference - reference.mean(),
            np.asarray(slopes - slopes.mean(axis=0), dtype=np.float32),
        )

    def _cut(self, region: Region) -> Float32Image:
        return self._image[region.y : region.stop_y, region.x : region.stop_x]


def _correlation(warped: Float32Image, reference: Float32Image) -> float:
    length = float(np.linalg.norm(warped)) * float(np.linalg.norm(reference))
    return float(warped @ reference) / length if length > 0 else 0.0


def _ecc_step(
    warped: Float32Image, reference: Float32Image, slopes: Float32Image
) -> npt.NDArray[np.float64] | None:
    """Return the step in (scale, y, x) by equations 19 and 20, or None where there is none."""
    hessian = (slopes.T @ slopes).astype(np.float64)
    along_image, along_reference = (
        (slopes.T @ values).astype(np.float64) for values in (warped, reference)
    )
    if not np.linalg.cond(hessian) < 1e9:
        return None  # nothing there to hold on to
    projected = np.linalg.solve(hessian, along_image)
    lift = float(reference @ warped) - along_reference @ projected
    if lift <= 0:
        return None  # the planes do not agree here at all
    gain = (float(warped @ warped) - along_image @ projected) / lift
    step = np.linalg.solve(hessian, gain * along_reference - along_image)
    return np.asarray(step, dtype=np.float64)
