"""Fusion by Laplacian pyramids: at each scale the strongest detail wins.

The pyramid is that of Burt & Adelson 1983 (IEEE Trans. Commun. 31:532) with a = 0.4; the choice by
local activity follows Burt & Kolczynski 1993 (ICCV, p. 173).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .bands import BandMethod, grey, take
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
            bands.append(self._strongest(level - expand(coarser)))
            level = coarser
        fused = level.mean(dim=0, keepdim=True)
        for band in reversed(bands):
            fused = expand(fused) + band
        return fused

    def _strongest(self, bands: Tensor) -> Tensor:
        """Choose among the planes' (Z, 3, Y, X) band-passes; (1, 3, Y, X)."""
        strength = grey(bands).abs()
        activity = functional.avg_pool2d(strength, self.window, stride=1, padding=self.window // 2)
        return take(bands, activity.argmax(dim=0, keepdim=True))


def reduce(images: Tensor) -> Tensor:
    """Smooth (Z, C, Y, X) images with the 5-tap kernel and keep every second pixel."""
    return _smooth_axis(_smooth_axis(images, 2, stride=2), 3, stride=2)


def expand(images: Tensor) -> Tensor:
    """Interpolate (Z, C, Y, X) images to twice the size with the same kernel."""
    return _expand_axis(_expand_axis(images, 2), 3)


def smooth(images: Tensor) -> Tensor:
    """Smooth (Z, C, Y, X) images with the 5-tap kernel."""
    return _smooth_axis(_smooth_axis(images, 2, stride=1), 3, stride=1)


def _smooth_axis(images: Tensor, axis: int, stride: int) -> Tensor:
    """Filter one axis; edges repeat.  Slices take a third of the time of a grouped convolution."""
    size = images.shape[axis]
    first, last = images.narrow(axis, 0, 1), images.narrow(axis, size - 1, 1)
    padded = torch.cat([first, first, images, last, last], axis).movedim(axis, 0)
    taps = [padded[tap : tap + size : stride] for tap in range(5)]
    result = KERNEL[2] * taps[2] + KERNEL[1] * (taps[1] + taps[3]) + KERNEL[0] * (taps[0] + taps[4])
    return result.movedim(0, axis)


def _expand_axis(images: Tensor, axis: int) -> Tensor:
    """Double one axis: even samples weigh 3 neighbours by twice taps 0, 2, 4, odd ones 2."""
    size = images.shape[axis]
    before = torch.cat([images.narrow(axis, 0, 1), images.narrow(axis, 0, size - 1)], axis)
    after = torch.cat([images.narrow(axis, 1, size - 1), images.narrow(axis, size - 1, 1)], axis)
    even = 2 * KERNEL[0] * (before + after) + 2 * KERNEL[2] * images
    odd = 2 * KERNEL[1] * (images + after)
    return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1)
