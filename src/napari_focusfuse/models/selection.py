"""Per-pixel selection of the sharpest focal plane by Laplacian energy.

The energy of the Laplacian is a classical focus measure (Nayar & Nakagawa 1994, IEEE TPAMI 16:824,
call its absolute form "modified Laplacian").  It lives beside the networks because the swift
generator starts from this selection: what it adds is a correction of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

GREY = (0.299, 0.587, 0.114)
"""ITU-R BT.601 luma weights, as the metrics use them."""


@dataclass(frozen=True)
class SelectionConfig:
    """Smoothing of the focus measure and of the decision, in pixels."""

    energy_sigma: float = 4.0
    """Gaussian over which the focus measure is averaged."""
    decision_sigma: float = 1.5
    """Gaussian that softens the borders of the decision map."""

    @property
    def reach(self) -> int:
        """Pixels a decision looks to each side: the Laplacian and both truncated Gaussians."""
        return 1 + _radius(self.energy_sigma) + _radius(self.decision_sigma)


def _radius(sigma: float) -> int:
    return math.ceil(3 * sigma)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Return (B, C, Y, X) images convolved with a Gaussian truncated at 3 sigma; edges repeat."""
    radius = _radius(sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    batch, channels, height, width = images.shape
    flat = images.reshape(batch * channels, 1, height, width)
    flat = functional.pad(flat, (radius, radius, radius, radius), mode="replicate")
    flat = functional.conv2d(
        functional.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)
    )
    return flat.view(batch, channels, height, width)


def laplacian_energy(planes: Tensor) -> Tensor:
    """Return the squared 4-neighbour Laplacian of the grey image of each plane.

    Parameters
    ----------
    planes
        (B, Z, 3, Y, X) float tensor in [0, 1].

    Returns
    -------
    (B, Z, Y, X) tensor, not negative
    """
    weights = torch.tensor(GREY, dtype=planes.dtype, device=planes.device).view(1, 1, 3, 1, 1)
    grey = functional.pad((planes * weights).sum(dim=2), (1, 1, 1, 1), mode="replicate")
    centre = grey[..., 1:-1, 1:-1]
    neighbours = (
        grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    )
    return (neighbours - 4 * centre) ** 2


def decision_map(planes: Tensor, config: SelectionConfig) -> Tensor:
    """Return the weight of each plane at each pixel.

    Parameters
    ----------
    planes
        (B, Z, 3, Y, X) float tensor in [0, 1].

    Returns
    -------
    (B, Z, Y, X) tensor in [0, 1] that sums to 1 over Z
    """
    sharpest = blur(laplacian_energy(planes), config.energy_sigma).argmax(dim=1)
    chosen = functional.one_hot(sharpest, planes.shape[1]).movedim(-1, 1).to(planes.dtype)
    return blur(chosen, config.decision_sigma)


def select(planes: Tensor, weights: Tensor) -> Tensor:
    """Return the (B, 3, Y, X) mean of the planes under the weights of :func:`decision_map`."""
    return (planes * weights.unsqueeze(2)).sum(dim=1)
