"""Fusion by the discrete wavelet transform: the largest coefficient wins.

The rule is that of Li, Manjunath & Mitra 1995 (Graph. Models Image Process. 57:235) without its
window; the transform is Mallat's with Daubechies' filters of four taps (db2) and mirrored edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bands import BandMethod, grey, mirrored, take, weighted_sum
from .method import MethodInfo

_ROOT3 = math.sqrt(3.0)
LOW = tuple(tap / (4 * math.sqrt(2.0)) for tap in (1 + _ROOT3, 3 + _ROOT3, 3 - _ROOT3, 1 - _ROOT3))
"""Daubechies' scaling filter with two vanishing moments (1988, table 1), of sum sqrt(2)."""
HIGH = (LOW[3], -LOW[2], LOW[1], -LOW[0])
"""Its wavelet filter."""


class WaveletMethod(BandMethod):
    """Take each detail coefficient from the plane where that of the grey image is largest.

    All three channels follow the one choice and each value is kept within the span of its sources,
    so no false colour arises.  The approximation is the planes' mean.  Sides and origins of tiles
    must be multiples of 2 ** levels, else the transform shifts with them.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        super().__init__(info, device)
        self.levels = int(info.settings["levels"])

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X); the result may overshoot them."""
        level, details = planes, []
        for _ in range(self.levels):
            level, *bands = analyse(level)
            details.append([take(band, _largest(band)) for band in bands])
        fused = level.mean(dim=0, keepdim=True)
        for bands in reversed(details):
            rows, columns = bands[0].shape[2:]
            fused = synthesise(fused[..., :rows, :columns], *bands)
        return fused


def analyse(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split (Z, C, Y, X) images into approximation and details of half the size.

    Returns
    -------
    approximation, detail along y, along x, along both; each (Z, C, (Y + 3) // 2, (X + 3) // 2)
    """
    low, high = (_halve(images, taps, 2) for taps in (LOW, HIGH))
    return _halve(low, LOW, 3), _halve(high, LOW, 3), _halve(low, HIGH, 3), _halve(high, HIGH, 3)


def synthesise(approximation: Tensor, along_y: Tensor, along_x: Tensor, both: Tensor) -> Tensor:
    """Undo :func:`analyse`; an odd side comes back one pixel longer."""
    low = _double(approximation, LOW, 3) + _double(along_x, HIGH, 3)
    high = _double(along_y, LOW, 3) + _double(both, HIGH, 3)
    return _double(low, LOW, 2) + _double(high, HIGH, 2)


def _largest(bands: Tensor) -> Tensor:
    return grey(bands).abs().argmax(dim=0, keepdim=True)


def _halve(images: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """Return at k the sum of ``taps[n] * images[2 k - 2 + n]`` along an axis."""
    count = (images.shape[axis] + 3) // 2
    after = 2 * count - images.shape[axis]
    samples = mirrored(images, axis, 2, after).movedim(axis, 0)
    return weighted_sum(samples, taps, 0, count, 2).movedim(0, axis)


def _double(bands: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """Return the adjoint of :func:`_halve`, without what falls outside the image."""
    samples = bands.movedim(axis, 0)
    pairs = len(samples) - 1
    phases = [weighted_sum(samples, (taps[2 + n], taps[n]), 0, pairs, 1) for n in (0, 1)]
    return torch.stack(phases, 1).flatten(0, 1).movedim(0, axis)
