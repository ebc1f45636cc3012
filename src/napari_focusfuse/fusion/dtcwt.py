"""Fusion by the dual-tree complex wavelet transform: the largest modulus wins.

The transform is that of Kingsbury 2001 (Appl. Comput. Harmon. Anal. 10:234): two real trees whose
filters are half a sample apart, each pair of coefficients one complex number, six orientations.
From the second level on each tree is orthonormal, so its synthesis is its analysis transposed.
The choice by a window of activity, made consistent among neighbours, follows Li, Manjunath & Mitra
1995 (Graph. Models Image Process. 57:235).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .bands import BandMethod, grey, mirrored, take, vote, weighted_sum
from .method import MethodInfo

_HALF_13 = (-0.0017578125, 0.0, 0.022265625, -0.046875, -0.0482421875, 0.296875)
_HALF_19 = (
    7.062639508928571e-05,
    0.0,
    -0.0013419015066964285,
    -0.0018833705357142855,
    0.007156808035714285,
    0.023856026785714284,
    -0.05564313616071428,
    -0.05168805803571428,
    0.29975760323660716,
)
FIRST_LOW = (*_HALF_13, 0.55546875, *_HALF_13[::-1])
"""near_sym_b, the first level's analysis: 13 and 19 taps, symmetric, sum 1."""
FIRST_LOW_BACK = (*_HALF_19, 0.5594308035714286, *_HALF_19[::-1])
# Each high-pass is the other side's low-pass with alternating signs.
FIRST_HIGH = tuple(tap * (-1) ** (n + 1) for n, tap in enumerate(FIRST_LOW_BACK))
FIRST_HIGH_BACK = tuple(tap * (-1) ** n for n, tap in enumerate(FIRST_LOW))

TREE_A_LOW = (
    0.003253142763653182,
    -0.00388321199915849,
    0.03466034684485349,
    -0.03887280126882779,
    -0.11720388769911527,
    0.27529538466888204,
    0.7561456438925225,
    0.5688104207121227,
    0.011866092033797,
    -0.1067118046866654,
    0.023825384794920298,
    0.01702522388155399,
    -0.005439475937274115,
    -0.004556895628475491,
)
"""qshift_b, all further levels; the other tree's filter is this one reversed."""
TREE_B_LOW = TREE_A_LOW[::-1]
TREE_A_HIGH = tuple(tap * (-1) ** n for n, tap in enumerate(TREE_B_LOW))
TREE_B_HIGH = TREE_A_HIGH[::-1]
_SIDE = len(TREE_A_LOW) - 2
"""Samples the further levels look beyond a block of four."""

Tree = tuple[float, ...]
Bands = tuple[Tensor, Tensor, Tensor]


class DualTreeMethod(BandMethod):
    """Take each complex coefficient from the plane where its surroundings are strongest.

    Activity is the modulus of the grey image's coefficient, the largest of 3 x 3; the choice is
    then put to the vote of 3 x 3.  With a window of 1, the plain rule, neither is done.  All three
    channels follow the choice and each value is kept within the span of its sources, so no false
    colour arises.  The coarsest level is the planes' mean, and looks so far that even a plane of
    which nothing is stored here counts in it.  Sides and origins of tiles must be multiples of
    2 ** levels, else the transform shifts with them.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        super().__init__(info, device)
        self.levels = int(info.settings["levels"])
        self.window = int(info.settings["window"])

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X); the result may overshoot them."""
        level, details = planes, []
        for depth in range(self.levels):
            level, bands = analyse(level, first=depth == 0)
            details.append(tuple(self._strongest(band) for band in bands))
        fused = level.mean(dim=0, keepdim=True)
        for depth, (along_y, along_x, both) in reversed(list(enumerate(details))):
            fused = synthesise(fused, (along_y, along_x, both), first=depth == 0)
        return fused

    def _strongest(self, band: Tensor) -> Tensor:
        """Choose among the planes' (Z, 3, Y, X) real bands, per orientation; (1, 3, Y, X)."""
        chosen = []
        for real, imaginary in to_complex(band):
            winner = self._winner((grey(real) ** 2 + grey(imaginary) ** 2).sqrt())
            chosen.append((take(real, winner), take(imaginary, winner)))
        return from_complex(chosen[0], chosen[1])

    def _winner(self, modulus: Tensor) -> Tensor:
        if self.window == 1:
            return modulus.argmax(dim=0, keepdim=True)
        widest = functional.max_pool2d(modulus, self.window, stride=1, padding=self.window // 2)
        return vote(widest.argmax(dim=0, keepdim=True), len(modulus))


def analyse(images: Tensor, first: bool) -> tuple[Tensor, Bands]:
    """Split (Z, C, Y, X) images one level further.

    Returns
    -------
    the low-pass image, of the same size at the first level and half of it at others; and the
    high-pass along y, along x and along both, whose blocks of 2 x 2 are two complex numbers
    """
    low, high = (_apart(images, 2, band, first) for band in ("low", "high"))
    lowest, along_x = (_apart(low, 3, band, first) for band in ("low", "high"))
    along_y, both = (_apart(high, 3, band, first) for band in ("low", "high"))
    return lowest, (along_y, along_x, both)


def synthesise(lowest: Tensor, bands: Bands, first: bool) -> Tensor:
    """Undo :func:`analyse`."""
    along_y, along_x, both = bands
    low = _together(lowest, 3, "low", first) + _together(along_x, 3, "high", first)
    high = _together(along_y, 3, "low", first) + _together(both, 3, "high", first)
    return _together(low, 2, "low", first) + _together(high, 2, "high", first)


def to_complex(band: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the (real, imaginary) parts of both orientations held by blocks of 2 x 2 values.

    Up to a factor that all share: sqrt(1/2), by which :func:`from_complex` would have to divide.
    """
    a, b = band[..., 0::2, 0::2], band[..., 0::2, 1::2]
    c, d = band[..., 1::2, 0::2], band[..., 1::2, 1::2]
    return (a - d, b + c), (a + d, b - c)


def from_complex(minus: tuple[Tensor, Tensor], plus: tuple[Tensor, Tensor]) -> Tensor:
    """Undo :func:`to_complex`."""
    (real_minus, imag_minus), (real_plus, imag_plus) = minus, plus
    even = torch.stack([real_plus + real_minus, imag_plus + imag_minus], dim=-1).flatten(-2)
    odd = torch.stack([imag_minus - imag_plus, real_plus - real_minus], dim=-1).flatten(-2)
    return torch.stack([even, odd], dim=-2).flatten(-3, -2) / 2


def _apart(images: Tensor, axis: int, band: str, first: bool) -> Tensor:
    """Filter one axis for analysis."""
    if first:
        return _centred(images, axis, FIRST_LOW if band == "low" else FIRST_HIGH)
    samples = mirrored(images, axis, _SIDE, _SIDE).movedim(axis, 0)
    count = images.shape[axis] // 4
    # One tree filters the even samples, the other the odd ones; each keeps every second of its own.
    trees = [
        weighted_sum(samples, taps[::-1], start, count, stride=4, spacing=2)
        for start, taps in enumerate(_trees(band))
    ]
    return torch.stack(_ordered(trees, band), 1).flatten(0, 1).movedim(0, axis)


def _together(bands: Tensor, axis: int, band: str, first: bool) -> Tensor:
    """Filter one axis for synthesis: what this band adds to the image."""
    if first:
        return _centred(bands, axis, FIRST_LOW_BACK if band == "low" else FIRST_HIGH_BACK)
    samples = mirrored(bands, axis, 6, 6).movedim(axis, 0)
    count = bands.shape[axis] // 2
    trees = _ordered([samples[0::2], samples[1::2]], band)
    # The transpose of the analysis: the odd taps make a tree's even samples, the even taps the odd.
    phases = [
        weighted_sum(tree, taps[start::2], 0, count, stride=1)
        for start in (1, 0)
        for tree, taps in zip(trees, _trees(band), strict=True)
    ]
    return torch.stack(phases, 1).flatten(0, 1).movedim(0, axis)


def _trees(band: str) -> tuple[Tree, Tree]:
    """Return the filters of the even and of the odd samples."""
    return (TREE_B_LOW, TREE_A_LOW) if band == "low" else (TREE_B_HIGH, TREE_A_HIGH)


def _ordered(trees: list[Tensor], band: str) -> list[Tensor]:
    """Change between the trees' order and that of their outputs, swapped in the high band."""
    return trees if band == "low" else trees[::-1]


def _centred(images: Tensor, axis: int, taps: tuple[float, ...]) -> Tensor:
    side = len(taps) // 2
    samples = mirrored(images, axis, side, side).movedim(axis, 0)
    return weighted_sum(samples, taps, 0, images.shape[axis], stride=1).movedim(0, axis)
