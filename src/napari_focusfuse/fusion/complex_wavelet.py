"""Fusion by complex Daubechies wavelets, the choice made consistent, then given back real colours.

Forster, Van De Ville, Berent, Sage & Unser 2004 (Microsc. Res. Tech. 65:33): the grey planes are
decomposed by symmetric complex wavelets, the coefficient of largest modulus wins, bands and
neighbours must agree, and each pixel of the grey result becomes the colour of that plane whose grey
is nearest to it.  The approximation is the planes' mean, where the original takes the largest of
those too: which says what is brightest, not what is sharpest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bands import BandMethod, grey, mean_shown, take, vote
from .method import MethodInfo
from .wavelet import Details, FilterBank, analyse, synthesise

_ROOT15 = math.sqrt(15.0)
_HALF = (-3 - 1j * _ROOT15, 5 - 1j * _ROOT15, 30 + 2j * _ROOT15)
COMPLEX_6 = FilterBank(tuple(math.sqrt(2.0) / 64 * tap for tap in (*_HALF, *_HALF[::-1])))
"""The complex Daubechies filter of six taps: symmetric, three vanishing moments (Lina & Mayrand
1995, Appl. Comput. Harmon. Anal. 2:219)."""

_ROUNDING = 1e-5
"""A smaller modulus is what rounding left of none, as where an edge is mirrored; an 8-bit step of
one pixel makes one of 1e-3.
"""


class ComplexWaveletMethod(BandMethod):
    """Give each pixel the colour of one plane, the one that complex wavelets come nearest to.

    No colour arises that is in no plane.  Sides and origins of tiles must be multiples of
    2 ** levels, else the transform shifts with them.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        super().__init__(info, device)
        self.levels = int(info.settings["levels"])

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X)."""
        greys = grey(planes)
        return take(planes, (greys - self.merge_grey(greys)).abs().argmin(dim=0, keepdim=True))

    def merge_grey(self, greys: Tensor) -> Tensor:
        """Merge (Z, 1, Y, X) grey planes to (1, 1, Y, X); the result may overshoot them."""
        level, details = greys.to(torch.complex64), []
        for _ in range(self.levels):
            level, bands = analyse(level, COMPLEX_6)
            chosen = vote(_agreed(bands), len(greys))
            along_y, along_x, both = (take(band, chosen) for band in bands)
            details.append((along_y, along_x, both))
        strongest = torch.stack([band.abs() for band in bands]).amax(dim=0)
        fused = mean_shown(level, strongest / 2**self.levels)
        for bands in reversed(details):
            fused = synthesise(fused, bands, COMPLEX_6)
        return fused.real


def _agreed(bands: Details) -> Tensor:
    """Return the plane that at least two of the three bands choose, else that of the strongest.

    Parameters
    ----------
    bands
        Complex (Z, 1, Y, X) details.

    Returns
    -------
    (1, 1, Y, X) indices
    """
    modulus = torch.stack([band.abs() for band in bands])
    strength, chosen = modulus.masked_fill(modulus < _ROUNDING, 0).max(dim=1)
    first, second, third = chosen
    strongest = chosen.gather(0, strength.argmax(dim=0, keepdim=True))[0]
    agreed = torch.where(second == third, second, strongest)
    return torch.where((first == second) | (first == third), first, agreed)[None]
