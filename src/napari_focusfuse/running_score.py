"""Scores of two images too large for memory, from their parts: the same figures, not estimates.

SSIM is a mean over windows, so every part is scored with as many pixels around it as a window sees;
CC, Q_MI and the global SSIM follow from the joint histogram of the grey values, PSNR from the sum
of squared differences, both of which are counts that add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from napari_focusfuse.joint_histogram import (
    IntTable,
    cc_of,
    joint_histogram,
    q_mi_of,
    ssim_global_of,
)
from napari_focusfuse.metrics import (
    VARIANTS,
    UInt8Image,
    Window,
    channel_ssim_map,
    grey,
    psnr_of,
    window_radius,
)
from napari_focusfuse.slide import Region

HALO = 5
"""Pixels around a part that its windows see."""

Averaged = Literal["SSIM-paper", "SSIM-sk", "SSIM-rgb"]
_WINDOWS: dict[Averaged, Window] = {
    "SSIM-paper": "gaussian",
    "SSIM-sk": "uniform",
    "SSIM-rgb": "gaussian",
}


@dataclass(frozen=True)
class PartScore:
    """What one part adds to the scores of the whole."""

    part: Region
    sums: dict[Averaged, float]
    """Sums of the SSIM maps over the pixels whose windows lie inside the image."""
    counts: dict[Averaged, int]
    """How many those are."""
    squares: int
    """Sum of the squared differences of all channels."""
    joint: IntTable = field(repr=False)

    def scores(self) -> dict[str, float]:
        """Return the part's own SSIM-paper, CC and PSNR.

        SSIM is NaN if none of its windows lies inside the image, CC where an image is flat; PSNR is
        infinite where both are equal.
        """
        count = self.counts["SSIM-paper"]
        return {
            "SSIM-paper": self.sums["SSIM-paper"] / count if count else float("nan"),
            "CC": cc_of(self.joint),
            "PSNR": psnr_of(self.squares, 3 * self.part.height * self.part.width),
        }


def parts(height: int, width: int, side: int) -> Iterator[Region]:
    """Yield the parts of an image, by rows."""
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield Region(y, x, side, side).clipped(height, width)


def widened(part: Region, height: int, width: int) -> Region:
    """Return a part with the pixels around it that its windows see, as far as the image goes."""
    wide = Region(part.y - HALO, part.x - HALO, part.height + 2 * HALO, part.width + 2 * HALO)
    return wide.clipped(height, width)


def score_part(
    part: Region, shape: tuple[int, int], image: UInt8Image, reference: UInt8Image
) -> PartScore:
    """Score one part.

    Parameters
    ----------
    part
        One of :func:`parts` of an image of ``shape`` (height, width).
    image, reference
        (Y, X, 3) uint8 pixels of the :func:`widened` part.
    """
    wide = widened(part, *shape)
    x, y = grey(image), grey(reference)
    sums: dict[Averaged, float] = {}
    counts: dict[Averaged, int] = {}
    for name, window in _WINDOWS.items():
        counted = _inside(part, shape, window_radius(window))
        own = _slices(counted, wide)
        counts[name] = counted.height * counted.width
        channels = [(x, y)]
        if name == "SSIM-rgb":
            channels = [(image[..., c], reference[..., c]) for c in range(3)]
        maps = (channel_ssim_map(*pair, window)[own] for pair in channels)
        sums[name] = sum(float(values.sum()) for values in maps) / len(channels)
    own = _slices(part, wide)
    difference = image[own].astype(np.int32) - reference[own]
    squares = int(np.sum(difference * difference, dtype=np.int64))
    return PartScore(part, sums, counts, squares, joint_histogram(x[own], y[own]))


class RunningScore:
    """The scores of an image so far, part by part; parts may come in any order."""

    def __init__(self) -> None:
        self.pixels = 0
        self._sums: dict[Averaged, float] = dict.fromkeys(_WINDOWS, 0.0)
        self._counts: dict[Averaged, int] = dict.fromkeys(_WINDOWS, 0)
        self._squares = 0
        self._joint: IntTable = np.zeros((256, 256), np.int64)

    def add(self, one: PartScore) -> None:
        """Add a part."""
        self.pixels += one.part.height * one.part.width
        for name in _WINDOWS:
            self._sums[name] += one.sums[name]
            self._counts[name] += one.counts[name]
        self._squares += one.squares
        self._joint += one.joint

    def scores(self) -> dict[str, float]:
        """Return one figure for each name of :data:`metrics.VARIANTS`, in that order."""
        found: dict[str, float] = {
            **{name: self._sums[name] / self._counts[name] for name in _WINDOWS},
            "SSIM-global": ssim_global_of(self._joint),
            "CC": cc_of(self._joint),
            "Q_MI": q_mi_of(self._joint),
            "PSNR": psnr_of(self._squares, 3 * self.pixels),
        }
        return {name: found[name] for name in VARIANTS}


def _inside(part: Region, shape: tuple[int, int], radius: int) -> Region:
    """Return the pixels of a part that lie at least ``radius`` inside the image."""
    y, x = max(part.y, radius), max(part.x, radius)
    stop_y, stop_x = min(part.stop_y, shape[0] - radius), min(part.stop_x, shape[1] - radius)
    return Region(y, x, max(0, stop_y - y), max(0, stop_x - x))


def _slices(part: Region, within: Region) -> tuple[slice, slice]:
    y, x = part.y - within.y, part.x - within.x
    return slice(y, y + part.height), slice(x, x + part.width)
