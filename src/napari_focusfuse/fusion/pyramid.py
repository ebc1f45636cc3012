"""Fusion by Laplacian pyramids: at each scale the strongest detail wins.

The pyramid is that of Burt & Adelson 1983 (IEEE Trans. Commun. 31:532) with a = 0.4; the choice by
local activity follows Burt & Kolczynski 1993 (ICCV, p. 173).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .bands import BandMethod, grey, mean_shown, take
from .method import MethodInfo

KERNEL = (0.05, 0.25, 0.4, 0.25, 0.05)
"""Burt and Adelson's generating kernel: [1/4 - a/2, 1/4, a, 1/4, 1/4 - a/2] at a = 0.4."""


class PyramidMethod(BandMethod):
    """Take each band-pass coefficient from the plane that is most active around it.

    Activity is the mean absolute band-pass of the grey image over a window; all three channels
    follow the one choice and each value is kept within the span of its sources, so no false colour
    arises.  The coarsest level is the planes' mean.
    Sides and origins of tiles must be multiples of 2 ** levels, else the pyramid shifts with them.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        super().__init__(info, device)
        self.levels = int(info.settings["levels"])
        self.window = int(info.settings["window"])

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X); the result may overshoot them."""
        level, bands = planes, []
        for _ in range(self.levels):
            coarser = reduce(level)
            band = level - expand(coarser)
            bands.append(self._strongest(band))
            level = coarser
        fused = mean_shown(level, functional.max_pool2d(grey(band).abs(), 2))
        for band in reversed(bands):
            fused = expand(fused) + band
        return fused

    def _strongest(self, bands: Tensor) -> Tensor:
        """Choose among the planes' (Z, 3, Y, X) band-passes; (1, 3, Y, X)."""
        strength = grey(bands).abs()
        activity = functional.avg_pool2d(strength, self.window, stride=1, padding=self.window // 2)
        return take(bands, activity.argmax(dim=0, keepdim=True))


def reduce(images: Tensor) -> Tensor:
    """Smooth (Z, C, Y, X) images of even sides with the 5-tap kernel, keep every second pixel."""
    return _reduce_axis(_reduce_axis(images, 2), 3)


def expand(images: Tensor) -> Tensor:
    """Interpolate (Z, C, Y, X) images to twice the size with the same kernel."""
    return _expand_axis(_expand_axis(images, 3), 2)


def smooth(images: Tensor) -> Tensor:
    """Smooth (Z, C, Y, X) images with the 5-tap kernel."""
    return _smooth_axis(_smooth_axis(images, 2), 3)


# Edges repeat.  Sums in place take a third of the time of new tensors, or of a grouped convolution.


def _reduce_axis(images: Tensor, axis: int) -> Tensor:
    even, odd = images.unflatten(axis, (-1, 2)).unbind(axis + 1)
    first, last = even.narrow(axis, 0, 1), odd.narrow(axis, -1, 1)
    total = (KERNEL[2] * even).add_(odd, alpha=KERNEL[3])
    _add_neighbours(total, odd, axis, -1, KERNEL[1], first)
    _add_neighbours(total, even, axis, -1, KERNEL[0], first)
    _add_neighbours(total, even, axis, +1, KERNEL[4], last)
    return total


def _expand_axis(images: Tensor, axis: int) -> Tensor:
    """Double one axis: even samples weigh 3 neighbours by twice taps 0, 2, 4, odd ones 2."""
    first, last = images.narrow(axis, 0, 1), images.narrow(axis, -1, 1)
    even = 2 * KERNEL[2] * images
    _add_neighbours(even, images, axis, -1, 2 * KERNEL[4], first)
    _add_neighbours(even, images, axis, +1, 2 * KERNEL[0], last)
    odd = 2 * KERNEL[3] * images
    _add_neighbours(odd, images, axis, +1, 2 * KERNEL[1], last)
    return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1)


def _smooth_axis(images: Tensor, axis: int) -> Tensor:
    first, last = images.narrow(axis, 0, 1), images.narrow(axis, -1, 1)
    total = KERNEL[2] * images
    for step, tap in ((1, KERNEL[3]), (2, KERNEL[4])):
        _add_neighbours(total, images, axis, -step, tap, first)
        _add_neighbours(total, images, axis, +step, tap, last)
    return total


def _add_neighbours(
    total: Tensor, images: Tensor, axis: int, step: int, tap: float, beyond: Tensor
) -> None:
    """Add to each value ``tap`` times the one ``step`` further along the axis, or ``beyond`` it."""
    size = total.shape[axis]
    outside = min(abs(step), size)
    inside = size - outside
    into, source, edge = (0, outside, inside) if step > 0 else (outside, 0, 0)
    total.narrow(axis, into, inside).add_(images.narrow(axis, source, inside), alpha=tap)
    total.narrow(axis, edge, outside).add_(beyond, alpha=tap)
