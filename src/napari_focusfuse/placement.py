"""Where a result lies in the slide it was made of, as its provenance says.

A provenance read from a file may say anything, so it is checked before it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True)
class Placement:
    """A place at one level of a slide."""

    origin: tuple[int, int]
    """(y, x) of the result's first pixel, in pixels of its level."""
    downsample: tuple[float, float]
    """(y, x) pixels of the slide's level 0 for one of its level."""

    @classmethod
    def noted(cls, provenance: Mapping[str, Any]) -> Placement | None:
        """Return the placement in a provenance, or None if it has no plausible one."""
        region, downsample = provenance.get("region"), provenance.get("level_downsample")
        if not finite_numbers(region, 4) or not finite_numbers(downsample, 2):
            return None
        if min(downsample) < 1:
            return None
        return cls((int(region[0]), int(region[1])), (downsample[0], downsample[1]))


def finite_numbers(values: object, count: int) -> TypeGuard[list[float]]:
    """Tell whether something is a list of so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    )
