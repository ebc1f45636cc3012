"""How far planes and pixels lie apart: what a model is told of the slide it fuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

TYPICAL_GAP_UM = 2.0
"""Distance of planes that a model takes an unknown one for."""
TYPICAL_MPP = 0.25
"""Micrometres per pixel that a model takes an unknown size for."""
_MOST = 3.0
"""Octaves from the typical beyond which no model has learnt anything."""


@dataclass(frozen=True)
class Sampling:
    """Where planes lie and how large a pixel is, as far as a slide says."""

    gaps_um: tuple[float | None, ...] = ()
    """Distance of each plane from the one before, in micrometres; None: unknown."""
    mpp: float | None = None
    """Micrometres per pixel, or None."""

    @classmethod
    def of(
        cls, heights_um: Sequence[float | None], mpp: tuple[float, float] | float | None
    ) -> Sampling:
        """Describe planes by their heights; of unequal (y, x) pixels the geometric mean counts."""
        gaps = (
            None if low is None or high is None else abs(high - low)
            for low, high in pairwise(heights_um)
        )
        if isinstance(mpp, tuple):
            mpp = math.sqrt(mpp[0] * mpp[1])
        return cls(tuple(gaps), mpp)

    def octaves(self) -> tuple[float, ...]:
        """Return each gap, then the pixel size, in octaves from the typical; 0 where unknown.

        They are what a network is given: blur grows with gap over pixel size, and ratios count.
        """
        gaps = (_octaves(gap, TYPICAL_GAP_UM) for gap in self.gaps_um)
        return (*gaps, _octaves(self.mpp, TYPICAL_MPP))


def _octaves(value: float | None, typical: float) -> float:
    if value is None or not value > 0:  # neither is a number that is no number known
        return 0.0
    return max(-_MOST, min(_MOST, math.log2(value / typical)))
