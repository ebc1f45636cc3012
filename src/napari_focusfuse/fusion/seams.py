"""How much a fusion depends on where its tiles happen to fall."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .method import FusionMethod
from .plan import FusionPlan
from .region import finish, run_fusion


@dataclass(frozen=True)
class SeamDependence:
    """Difference between two fusions of one region, the second with its tile grid moved."""

    maximum: int
    """Largest difference, in steps of 1/255."""
    mean: float
    """Mean absolute difference, in steps of 1/255."""
    changed: float
    """Share of pixels that differ, 0 to 1."""


def seam_dependence(
    plan: FusionPlan, method: FusionMethod, moved: tuple[int, int] | None = None
) -> SeamDependence:
    """Fuse a plan's region twice, the second time with the grid moved, and compare.

    Parameters
    ----------
    plan, method
        What to fuse; a region of at least one step holds seams to look at.
    moved
        (y, x) pixels, multiples of the grid's alignment; None: half a step.
    """
    grid, region = plan.grid, plan.region
    half = grid.step // 2 // grid.alignment * grid.alignment
    down, right = (half, half) if moved is None else moved
    other = replace(grid, start=(-(-down % grid.step), -(-right % grid.step)))
    tiles = other.tiles_for(region.y, region.x, region.height, region.width)
    first = finish(run_fusion(plan, method)).image
    second = finish(run_fusion(replace(plan, grid=other, tiles=tiles), method)).image
    difference = np.abs(first.astype(np.int16) - second)
    return SeamDependence(
        maximum=int(difference.max()),
        mean=float(difference.mean()),
        changed=float((difference.max(axis=-1) > 0).mean()),
    )
