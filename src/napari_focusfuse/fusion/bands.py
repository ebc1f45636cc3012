"""What the methods that fuse by bands share: whose coefficient is taken, and which colours arise.

Only shifted sums, no library convolution: each value is then the same sum in the same order
wherever it lies in a tile, so that near ties fall alike in every tile; and it is faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from napari_focusfuse.models.selection import GREY


def grey(images: Tensor) -> Tensor:
    """Return the (Z, 1, Y, X) luma of (Z, 3, Y, X) images or bands."""
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def take(bands: Tensor, chosen: Tensor) -> Tensor:
    """Return the (1, C, Y, X) values of the (Z, C, Y, X) planes that (1, 1, Y, X) indices name."""
    return bands.gather(0, chosen.expand(1, bands.shape[1], -1, -1))


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
    samples: Tensor, taps: Sequence[float], first: int, count: int, stride: int, spacing: int = 1
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
