"""Fusion by the discrete wavelet transform: the largest coefficient wins.

The rule is that of Li, Manjunath & Mitra 1995 (Graph. Models Image Process. 57:235) without its
window; the transform is Mallat's with Daubechies' filters of four taps (db2) and mirrored edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .bands import BandMethod, grey, mean_shown, mirrored, take, weighted_sum
from .method import MethodInfo

Details = tuple[Tensor, Tensor, Tensor]

_ROOT3 = math.sqrt(3.0)


@dataclass(frozen=True)
class FilterBank:
    """Two orthonormal filters of an even number of taps, real or complex."""

    low: Sequence[complex]
    """The scaling filter, of sum sqrt(2)."""

    @property
    def high(self) -> Sequence[complex]:
        """The wavelet filter: the scaling filter's conjugate, reversed, with alternating signs."""
        return tuple((-1) ** n * tap.conjugate() for n, tap in enumerate(reversed(self.low)))


DB2 = FilterBank(
    tuple(tap / (4 * math.sqrt(2.0)) for tap in (1 + _ROOT3, 3 + _ROOT3, 3 - _ROOT3, 1 - _ROOT3))
)
"""Daubechies' filter with two vanishing moments (1988, table 1)."""


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
            level, (along_y, along_x, both) = analyse(level, DB2)
            details.append((_largest(along_y), _largest(along_x), _largest(both)))
        strongest = torch.stack([grey(band).abs() for band in (along_y, along_x, both)]).amax(dim=0)
        fused = mean_shown(level, strongest / 2**self.levels)
        for bands in reversed(details):
            fused = synthesise(fused, bands, DB2)
        return fused


def analyse(images: Tensor, bank: FilterBank) -> tuple[Tensor, Details]:
    """Split (Z, C, Y, X) images into approximation and details of half the size.

    Returns
    -------
    the approximation; and the details along y, along x, along both.  All have
    (side + taps - 1) // 2 pixels a side.
    """
    low, high = (_halve(images, taps, 2) for taps in (bank.low, bank.high))
    along_x, both = _halve(low, bank.high, 3), _halve(high, bank.high, 3)
    return _halve(low, bank.low, 3), (_halve(high, bank.low, 3), along_x, both)


def synthesise(approximation: Tensor, details: Details, bank: FilterBank) -> Tensor:
    """Undo :func:`analyse`; an odd side comes back one pixel longer, what is too long is cut."""
    along_y, along_x, both = details
    rows, columns = both.shape[2:]
    approximation = approximation[..., :rows, :columns]
    low = _double(approximation, bank.low, 3) + _double(along_x, bank.high, 3)
    high = _double(along_y, bank.low, 3) + _double(both, bank.high, 3)
    return _double(low, bank.low, 2) + _double(high, bank.high, 2)


def _largest(band: Tensor) -> Tensor:
    return take(band, grey(band).abs().argmax(dim=0, keepdim=True))


def _halve(images: Tensor, taps: Sequence[complex], axis: int) -> Tensor:
    """Return at k the sum of ``taps[n] * images[2 k + 2 - len(taps) + n]`` along an axis."""
    count = (images.shape[axis] + len(taps) - 1) // 2
    before, after = len(taps) - 2, 2 * count - images.shape[axis]
    samples = mirrored(images, axis, before, after).movedim(axis, 0)
    return weighted_sum(samples, taps, 0, count, 2).movedim(0, axis)


def _double(bands: Tensor, taps: Sequence[complex], axis: int) -> Tensor:
    """Return the adjoint of :func:`_halve`, without what falls outside the image."""
    samples = bands.movedim(axis, 0)
    taps = [tap.conjugate() for tap in taps]
    pairs = len(samples) + 1 - len(taps) // 2
    phases = [weighted_sum(samples, taps[len(taps) - 2 + n :: -2], 0, pairs, 1) for n in (0, 1)]
    return torch.stack(phases, 1).flatten(0, 1).movedim(0, axis)
