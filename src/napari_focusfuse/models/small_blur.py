"""The small blur model: says at each pixel how likely the plane is out of focus there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .selection import laplacian_energy
from .swift import ResidualBlock

_ENERGY_FLOOR = 1e-5
"""Laplacian energy of faint noise; the logarithm below it carries nothing."""


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
        # RGB and the log focus measure, 16 pixels of each side by side.
        self.head = nn.Conv2d(64, config.width, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(config.width, dilation) for dilation in config.dilations)
        )
        self.tail = nn.Conv2d(config.width, 2, 1)

    @property
    def reach(self) -> int:
        """Upper bound in pixels of how far an output pixel looks to each side."""
        # The Laplacian: 1; bilinear upsampling mixes neighbouring coarse pixels: 4; alignment: 3.
        return 4 * (1 + 2 * sum(self.config.dilations)) + 1 + 4 + 3

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
        energy = laplacian_energy(images.unsqueeze(1))
        measure = 0.2 * (torch.log(energy + _ENERGY_FLOOR) - math.log(_ENERGY_FLOOR))
        inputs = torch.cat([images - 0.5, measure], dim=1)
        features = self.body(self.head(functional.pixel_unshuffle(inputs, 4)))
        logits = self.tail(functional.leaky_relu(features, 0.1))
        return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
