"""The small blur model: says at each pixel how likely the plane is out of focus there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .selection import GREY, blur
from .swift import ResidualBlock

_EDGES = ((0.7, 2), (1.4, 4), (2.8, 7), (5.6, 14))
"""Sigma and radius, in pixels, of the Gaussians between which the bands of detail lie."""
_ENERGY_FLOOR = 1e-6
"""Energy of rounding; the logarithm below it carries nothing."""
_GRID = 4


@dataclass(frozen=True)
class SmallBlurConfig:
    """Size of a :class:`SmallBlurModel`."""

    width: int = 32
    """Channels at quarter resolution."""
    blocks: int = 4
    """Residual blocks at quarter resolution."""

    @property
    def dilations(self) -> tuple[int, ...]:
        """Spacing of each block's convolutions; the later half looks further at no cost.

        Heights of a smear vary slowly, so what lies around an empty spot tells about it.
        """
        return tuple(1 + max(0, i + 1 - self.blocks // 2) for i in range(self.blocks))


class SmallBlurModel(nn.Module):
    """Segment the blurred regions of one plane, at a twentieth of the paper's blur model's cost.

    Height and width must be multiples of :attr:`multiple_of`.
    """

    multiple_of = 4

    def __init__(self, config: SmallBlurConfig) -> None:
        super().__init__()
        self.config = config
        # RGB, 16 pixels of each side by side, and the strength of each band.
        inputs = 3 * _GRID**2 + len(_EDGES)
        self.head = nn.Conv2d(inputs, config.width, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(config.width, dilation) for dilation in config.dilations)
        )
        self.tail = nn.Conv2d(config.width, 2, 1)

    @property
    def reach(self) -> int:
        """Upper bound in pixels of how far an output pixel looks to each side."""
        # The widest Gaussian; bilinear upsampling mixes neighbouring coarse pixels, 4; alignment 3.
        return 4 * (1 + 2 * sum(self.config.dilations)) + _EDGES[-1][1] + 4 + 3

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Parameters
        ----------
        images
            (B, 3, Y, X) float tensor in [0, 1].

        Returns
        -------
        (B, 2, Y, X) tensor of logits: sharp, blurred
        """
        # Small energies do not survive reduced precision.
        with torch.autocast(images.device.type, enabled=False):
            strengths = band_strengths(images.float())
        inputs = torch.cat([functional.pixel_unshuffle(images - 0.5, _GRID), strengths], dim=1)
        features = self.body(self.head(inputs))
        logits = self.tail(functional.leaky_relu(features, 0.1))
        return functional.interpolate(
            logits, scale_factor=_GRID, mode="bilinear", align_corners=False
        )


def band_strengths(images: Tensor) -> Tensor:
    """Return the logarithm of the energy of each band of detail, at every fourth pixel.

    Blur takes fine detail before coarse, so the differences of these logarithms tell it whatever
    the contrast: a classical measure, which a network of a few layers hardly finds by itself.

    Parameters
    ----------
    images
        (B, 3, Y, X) float32 tensor in [0, 1].

    Returns
    -------
    (B, 4, Y / 4, X / 4) tensor, from about -1.6 where a band is empty to 3
    """
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)
    grey = (images * weights).sum(dim=1, keepdim=True)
    smooth = [grey, *(blur(grey, *edge) for edge in _EDGES)]
    bands = torch.cat([fine - coarse for fine, coarse in pairwise(smooth)], dim=1)
    energy = functional.avg_pool2d(bands * bands, _GRID)
    return (torch.log(energy + _ENERGY_FLOOR) - math.log(_ENERGY_FLOOR)) / 3 - 1.6
