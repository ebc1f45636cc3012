"""What the methods that fuse by bands share: their frame, the choice, and which colours arise.

Only shifted sums, no library convolution: each value is then the same sum in the same order
wherever it lies in a tile, so that near ties fall alike in every tile; and it is faster.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_focusfuse.models.selection import GREY

from .method import Float32Image, FusionMethod, MethodInfo

_ROUNDING = 2e-6
"""Less detail than this is what rounding leaves of none; noise of an 8-bit step leaves 1e-4."""


class BandMethod(FusionMethod):
    """Splits the planes into bands, takes of each what is sharpest, and puts them together.

    Where no value of the result leaves the span of its sources, no false colour arises.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        self.info = info
        self.device = device

    def compute(self, stacks: Float32Image) -> Float32Image:
        """Fuse (B, Z, Y, X, 3) stacks; see :meth:`FusionMethod.__call__`."""
        # One stack at a time: what a pixel becomes must not depend on its tile's company.
        return np.stack([self._fuse(stack) for stack in stacks])

    @torch.inference_mode()
    def _fuse(self, stack: Float32Image) -> Float32Image:
        return self.fuse_planes(torch.from_numpy(stack).to(self.device)).cpu().numpy()

    def fuse_planes(self, planes: Tensor) -> Tensor:
        """Fuse (Z, Y, X, 3) planes to (Y, X, 3)."""
        planes = planes.movedim(-1, 1).contiguous()
        return within_sources(self.merge(planes), planes)[0].movedim(0, -1)

    @abstractmethod
    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X); the result may overshoot them."""


def grey(images: Tensor) -> Tensor:
    """Return the (Z, 1, Y, X) luma of (Z, 3, Y, X) images or bands."""
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def take(bands: Tensor, chosen: Tensor) -> Tensor:
    """Return the (1, C, Y, X) values of the (Z, C, Y, X) planes that (1, 1, Y, X) indices name."""
    return bands.gather(0, chosen.expand(1, bands.shape[1], -1, -1))


def vote(winner: Tensor, planes: int) -> Tensor:
    """Return the plane most of 3 x 3 (1, 1, Y, X) winners name; on a tie among them, their own."""
    votes = (winner == torch.arange(planes, device=winner.device).view(-1, 1, 1, 1)).float()
    counted = 9 * functional.avg_pool2d(votes, 3, stride=1, padding=1)
    return (counted.round() + votes / 2).argmax(dim=0, keepdim=True)


def mean_shown(approximations: Tensor, detail: Tensor) -> Tensor:
    """Return the (1, C, Y, X) mean of the planes that show anything there; of all if none does.

    A plane of which a slide stores nothing is one colour, to the bit; a picture has noise.  Such a
    plane must not lend its colour to the others.

    Parameters
    ----------
    approximations
        (Z, C, Y, X) coarsest levels.
    detail
        (Z, 1, Y, X) modulus of the coarsest detail, in the range of the pixels.
    """
    shown = (detail > _ROUNDING).to(detail.dtype)
    shown = torch.where(shown.any(dim=0, keepdim=True), shown, 1.0)
    return (approximations * shown).sum(dim=0, keepdim=True) / shown.sum(dim=0, keepdim=True)


def within_sources(fused: Tensor, planes: Tensor) -> Tensor:
    """Return the (1, 3, Y, X) image with each value inside the span of the (Z, 3, Y, X) planes.

    Coefficients of several planes put together may overshoot all of them: a colour, or a halo, that
    no plane shows.
    """
    return fused.clamp(planes.amin(dim=0, keepdim=True), planes.amax(dim=0, keepdim=True))


def mirrored(images: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Continue one axis by its mirror image, edge samples repeated, as often as it takes."""
    size = images.shape[axis]
    index = np.arange(-before, size + after) % (2 * size)
    index = np.where(index < size, index, 2 * size - 1 - index)
    return images.index_select(axis, torch.from_numpy(index).to(images.device))


def weighted_sum(
    samples: Tensor, taps: Sequence[complex], first: int, count: int, stride: int, spacing: int = 1
) -> Tensor:
    """Filter along the first axis.

    Returns
    -------
    ``count`` samples; the one at k is the sum over n of
    ``taps[n] * samples[first + stride * k + spacing * n]``
    """
    total: Tensor | None = None
    for number, tap in enumerate(taps):
        if tap:
            start = first + spacing * number
            part = samples[start : start + stride * (count - 1) + 1 : stride]
            total = part * tap if total is None else total.add_(part, alpha=tap)
    if total is None:
        raise ValueError("a filter needs a tap that is not zero")
    return total


def running_sum(samples: Tensor, width: int) -> Tensor:
    """Return the sums of ``width`` neighbours along the first axis.

    Sums of 1, 2, 4 ... neighbours are put together, so that each is made in the same order wherever
    it lies, which cumulative sums are not, and in few passes.
    """
    count = len(samples) - width + 1
    total = torch.zeros_like(samples[:count])
    size, start = 1, 0
    while start < width:
        if width & size:
            total += samples[start : start + count]
            start += size
        samples = samples[:-size] + samples[size:]
        size *= 2
    return total
