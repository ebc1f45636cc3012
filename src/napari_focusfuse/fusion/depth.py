"""Depth from focus: the height each pixel of a fusion came from, and how sure that is.

A detail is brightest in the plane nearest to it, and what its focus measure does from plane to
plane is close to a Gaussian in z: three values around the highest give its centre, between the
planes (S. K. Nayar & Y. Nakagawa, "Shape from focus", IEEE Trans. Pattern Anal. Mach. Intell. 16
(1994) 824, section VII).  Here the planes need not be evenly spaced, the measure is the energy of a
Laplacian of Gaussian, which lets through little noise and stays peaked over several micrometres,
and the error of the fit is carried along: it weighs the smoothing and becomes the confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_focusfuse.models.selection import blur, laplacian
from napari_focusfuse.slide import PlaneError

from .bands import grey
from .maps import DEPTH_INFO, FEWEST_PLANES, confidence_map, depth_map
from .method import Float32Image, MethodInfo, PixelMapper
from .plan import FusionPlan

_FLATTEST = 0.3
"""Least second difference of a fitted curve, in log energy: a flatter one has no peak."""
_TRUSTED_BEYOND = 0.25
"""Steps past the outermost heights shown at which a fitted peak counts for nothing."""
_AGREEMENT = 0.5
"""Scatter of neighbouring depths, in steps, that lowers the confidence to 1/e."""


@dataclass(frozen=True)
class DepthConfig:
    """Gaussians of the depth map, in pixels; see :attr:`reach`."""

    detail_sigma: float = 2.0
    """Of the Laplacian of Gaussian: the finest details are noise, the coarsest have no peak."""
    energy_sigma: float = 4.0
    """Over which the focus measure is averaged."""
    depth_sigma: float = 4.0
    """Over which the depths are, each by its certainty."""

    @property
    def reach(self) -> int:
        """Pixels a depth looks to each side: the Laplacian and the three truncated Gaussians."""
        sigmas = (self.detail_sigma, self.energy_sigma, self.depth_sigma)
        return 1 + sum(math.ceil(3 * sigma) for sigma in sigmas)

    @property
    def rounding(self) -> float:
        """The focus measure of what rounding to 8 bits leaves: no picture holds less noise."""
        impulse = torch.zeros(1, 1, 33, 33)
        impulse[..., 16, 16] = 1
        gain = float((laplacian(blur(impulse, self.detail_sigma)) ** 2).sum())
        return gain / 255**2 / 12


class DepthMapper(PixelMapper):
    """Finds the height of what is in focus at each pixel, and how sure that is.

    Parameters
    ----------
    heights
        Of the planes, in the order in which they will be given; no two alike.
    unit
        Of the heights, such as ``"um"``.

    Raises
    ------
    PlaneError
        If there are fewer than three planes, or two at one height.
    """

    takes = "fused"

    def __init__(
        self,
        heights: Sequence[float],
        unit: str = "um",
        device: str = "cpu",
        info: MethodInfo = DEPTH_INFO,
    ) -> None:
        if len(heights) < FEWEST_PLANES:
            raise PlaneError(
                f"A depth map takes at least {FEWEST_PLANES} focus layers, not {len(heights)}; "
                "choose more, or leave the depth map out."
            )
        if len(set(heights)) < len(heights):
            raise PlaneError(
                "Two of the focus layers have the same z, so no depth can be told from them; "
                "choose others, or leave the depth map out."
            )
        self.info, self.device = info, device
        self.config = DepthConfig()
        self._rounding = self.config.rounding
        self._order = np.argsort(heights)
        rising = np.asarray(heights, dtype=np.float64)[self._order]
        # Half a step beyond the outermost planes a detail is as sharp as between two planes.
        low = 1.5 * rising[0] - 0.5 * rising[1]
        high = 1.5 * rising[-1] - 0.5 * rising[-2]
        self.maps = (depth_map(float(low), float(high), unit), confidence_map())
        # In [0, 1] from lowest to highest, as the map is.
        self._z = torch.tensor((rising - low) / (high - low), dtype=torch.float32, device=device)

    def compute(self, stacks: Float32Image) -> Float32Image:
        """Return the (B, Y, X, 2) depth and confidence; see :meth:`PixelMapper.__call__`."""
        # One stack at a time: what a pixel becomes must not depend on its tile's company.
        return np.concatenate([self._map(stack[self._order]) for stack in stacks])

    @torch.inference_mode()
    def _map(self, stack: Float32Image) -> Float32Image:
        planes = torch.from_numpy(stack).to(self.device).movedim(-1, 1)
        config = self.config
        detail = laplacian(blur(grey(planes)[None, :, 0], config.detail_sigma)) ** 2
        energy = blur(detail, config.energy_sigma)[0]
        depth, certainty, step = fit_peak(energy, self._z, self._rounding)
        depth, confidence = smooth(depth, certainty, step, config.depth_sigma)
        return torch.stack([depth, confidence], dim=-1)[None].cpu().numpy()


def depth_mapper(plan: FusionPlan, device: str = "cpu") -> DepthMapper:
    """Return the mapper of a plan's planes: in um, or in planes from layer 0 where z is unknown.

    Raises
    ------
    PlaneError
        If there are fewer than three planes, or two at one height.
    """
    heights = [plane.z_um for plane in plan.planes if plane.z_um is not None]
    if len(heights) == len(plan.planes):
        return DepthMapper(heights, "um", device)
    return DepthMapper([plan.slide.offset(plane) for plane in plan.planes], "planes", device)


def fit_peak(energy: Tensor, z: Tensor, rounding: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a Gaussian to the focus measure at its highest plane and the two beside it.

    Parameters
    ----------
    energy
        (Z, Y, X) focus measure, by increasing height.
    z
        (Z,) heights; 0 to 1 is what may be shown.
    rounding
        Least noise in the focus measure.

    Returns
    -------
    depth
        (Y, X) height of the peak, in [0, 1].
    certainty
        (Y, X) in [0, 1]: 1 is a peak far above the noise, between the planes.
    step
        (Y, X) distance between the planes there.
    """
    # The plane furthest from focus shows what a plane holds without any detail: mostly noise.  Half
    # of it is taken off, so that the tails of the curve neither bend up nor vanish.
    noise = energy.amin(dim=0).clamp(min=rounding)
    peak = energy.argmax(dim=0).clamp(1, len(z) - 2)
    around = torch.stack([peak - 1, peak, peak + 1])
    z0, z1, z2 = z[around]
    values = energy.gather(0, around)
    l0, l1, l2 = (values - noise / 2).maximum(noise / 2).log()
    step = (z2 - z0) / 2
    # Newton's divided differences: a parabola through three points at any distances.
    rise, fall = (l1 - l0) / (z1 - z0), (l2 - l1) / (z2 - z1)
    curvature = ((fall - rise) / (2 * step)).minimum(-_FLATTEST / (2 * step**2))
    # From the slope in the middle, so that a curve that only rises or falls points outward.
    slope = (rise * (z2 - z1) + fall * (z1 - z0)) / (2 * step)
    depth = z1 - slope / (2 * curvature)
    # How far the peak moves with each logarithm, and how far noise moves that.
    by_curvature = rise / (4 * curvature**2 * step)
    by_rise = -1 / (2 * curvature)
    moves = torch.stack(
        [
            -(by_rise - by_curvature) / (z1 - z0),
            (by_rise - by_curvature) / (z1 - z0) - by_curvature / (z2 - z1),
            by_curvature / (z2 - z1),
        ]
    )
    error2 = ((moves * noise / values.maximum(noise)) ** 2).sum(dim=0) / step**2
    outside = ((-depth).maximum(depth - 1).clamp(min=0)) / step
    contrast = 1 - noise / values.amax(dim=0).maximum(noise)
    certainty = torch.exp(-error2) * (1 - outside / _TRUSTED_BEYOND).clamp(min=0) * contrast
    return depth.clamp(0, 1), certainty, step


def smooth(depth: Tensor, certainty: Tensor, step: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Average depths by their certainty; where neighbours contradict each other, confidence sinks.

    Returns
    -------
    (Y, X) depth and (Y, X) confidence, both in [0, 1]
    """
    weights = certainty**2 + 1e-6  # where nothing is certain, the mean of all around
    total = blur(weights, sigma)
    mean = blur(weights * depth, sigma) / total
    scatter2 = (blur(weights * depth**2, sigma) / total - mean**2).clamp(min=0)
    agreement = torch.exp(-scatter2 / (_AGREEMENT * step) ** 2)
    return mean, blur(certainty, sigma) * agreement
