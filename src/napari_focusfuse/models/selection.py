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


def blur(images: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Return (..., Y, X) images convolved with a Gaussian; edges repeat.

    It is truncated at ``radius`` pixels; None: at 3 sigma.  Shifted sums: libraries are several
    times slower at convolving single channels.
    """
    radius = _radius(sigma) if radius is None else radius
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    total = sum(weights)
    shape = images.shape
    if torch.compiler.is_exporting():  # shifted sums would be traced one by one, for minutes
        return _convolved(images, [weight / total for weight in weights])
    images = images.reshape(-1, *shape[-2:])
    for axis, border in ((1, (0, 0, radius, radius)), (2, (radius, radius, 0, 0))):
        padded = functional.pad(images, border, mode="replicate")
        length = shape[-2:][axis - 1]
        images = padded.narrow(axis, 0, length) * (weights[0] / total)
        for offset, weight in enumerate(weights[1:], start=1):
            images.add_(padded.narrow(axis, offset, length), alpha=weight / total)
    return images.reshape(shape)


def _convolved(images: Tensor, weights: list[float]) -> Tensor:
    """Return what :func:`blur` does, by two convolutions."""
    kernel = torch.tensor(weights, dtype=images.dtype, device=images.device)
    radius = len(weights) // 2
    padded = functional.pad(images.flatten(0, -3)[:, None], (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1)).view(images.shape)


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
    return laplacian((planes * weights).sum(dim=2)) ** 2


def laplacian(greys: Tensor) -> Tensor:
    """Return the 4-neighbour Laplacian of (B, Z, Y, X) grey images; edges repeat."""
    grey = functional.pad(greys, (1, 1, 1, 1), mode="replicate")
    neighbours = (
        grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    )
    return neighbours - 4 * greys


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
    energy = blur(laplacian_energy(planes), config.energy_sigma)
    highest = energy.amax(dim=1, keepdim=True)
    chosen = (energy == highest).to(planes.dtype)
    # Planes that tie share the pixel.
    return blur(chosen / chosen.sum(dim=1, keepdim=True), config.decision_sigma)


def select(planes: Tensor, weights: Tensor) -> Tensor:
    """Return the (B, 3, Y, X) mean of the planes under the weights of :func:`decision_map`."""
    return (planes * weights.unsqueeze(2)).sum(dim=1)
