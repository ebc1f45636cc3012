"""Fusion of coarse and of fine detail by weights that follow the picture's own edges.

Li, Kang & Hu 2013 (IEEE Trans. Image Process. 22:2864): where a plane is sharpest is decided pixel
by pixel and then smoothed by the guided filter of He, Sun & Tang 2013 (IEEE Trans. Pattern Anal.
Mach. Intell. 35:1397) with the plane itself as guide, widely for the base, narrowly for the detail.
"""

from __future__ import annotations

import math

from torch import Tensor

from napari_focusfuse.models.selection import blur, laplacian

from .bands import BandMethod, grey, mirrored, running_sum
from .method import MethodInfo

_LEAST = 1e-6
"""Weight of a plane that is chosen nowhere near: where none is, all count alike."""


class GuidedMethod(BandMethod):
    """Blend the planes' base and detail by guided-filtered choices of the sharpest plane.

    Sizes in pixels and the filter's regularisations are the paper's: base a mean of 31 x 31, focus
    measure a Gaussian of sigma 5 over |Laplacian|, radius 45 and 0.3 for the base, 7 and 1e-6 for
    the detail.  A weight that comes out negative counts as none.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        super().__init__(info, device)
        settings = info.settings
        self.base = int(settings["base"])
        self.sigma = float(settings["sigma"])
        self.wide = int(settings["base_radius"]), float(settings["base_epsilon"])
        self.narrow = int(settings["detail_radius"]), float(settings["detail_epsilon"])

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X); the result may overshoot them."""
        greys = grey(planes)
        sharpness = blur(laplacian(greys).abs(), self.sigma, radius=math.ceil(self.sigma))
        sharpest = (sharpness == sharpness.amax(dim=0, keepdim=True)).to(planes.dtype)
        base = box_mean(planes, self.base // 2)
        fused = _blend(base, sharpest, greys, *self.wide)
        return fused + _blend(planes - base, sharpest, greys, *self.narrow)


def _blend(bands: Tensor, sharpest: Tensor, greys: Tensor, radius: int, epsilon: float) -> Tensor:
    """Return the mean of a band of the planes under the guided-filtered choice."""
    weights = guided_filter(sharpest, greys, radius, epsilon).clamp(0, 1) + _LEAST
    return (bands * weights).sum(dim=0, keepdim=True) / weights.sum(dim=0, keepdim=True)


def guided_filter(images: Tensor, guides: Tensor, radius: int, epsilon: float) -> Tensor:
    """Return the (Z, 1, Y, X) images smoothed along the edges of as many guides.

    He, Sun & Tang 2013, equations 5, 6 and 8: in each window of ``radius`` px to each side the
    image is fitted by a linear function of the guide, and a pixel takes the mean of its windows'.
    """
    guides = guides - 0.5  # the variance is a difference of squares: small ones lose less
    guide, image = box_mean(guides, radius), box_mean(images, radius)
    variance = box_mean(guides * guides, radius) - guide * guide
    slope = (box_mean(guides * images, radius) - guide * image) / (variance.clamp(min=0) + epsilon)
    offset = image - slope * guide
    return box_mean(slope, radius) * guides + box_mean(offset, radius)


def box_mean(images: Tensor, radius: int) -> Tensor:
    """Return (Z, C, Y, X) images averaged over ``radius`` px to each side, mirrored at edges."""
    width = 2 * radius + 1
    for axis in (2, 3):
        samples = mirrored(images, axis, radius, radius).movedim(axis, 0)
        images = running_sum(samples, width).div_(width).movedim(0, axis)
    return images
