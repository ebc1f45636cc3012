"""SRGAN's generator (Ledig et al., CVPR 2017) without its upsampling, as a rival to compare with.

It was made to enlarge a photograph four times.  Here input and output are of one size, so the two
pixel-shuffle stages before its last convolution are left out, and several planes are its input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SrGanConfig:
    """Size of an :class:`SrGanGenerator`."""

    planes: int = 3
    """Focal planes it takes."""
    width: int = 64
    """Channels of all but the last convolution; 64 in the original."""
    blocks: int = 16
    """Residual blocks; 16 in the original."""


class NormalisedBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with the block's correction added, same shape."""
        corrected: Tensor = features + self.residual(features)
        return corrected


class SrGanGenerator(nn.Module):
    """Residual blocks at full resolution, with a skip across all of them.

    Batch normalisation takes the statistics of the batch in training and running ones in
    evaluation.
    """

    multiple_of = 1

    def __init__(self, config: SrGanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.head = nn.Sequential(nn.Conv2d(3 * config.planes, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(NormalisedBlock(width) for _ in range(config.blocks)),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.tail = nn.Conv2d(width, 3, 9, padding=4)

    @property
    def reach(self) -> int:
        """How far in pixels an output pixel looks to each side."""
        return 4 + 2 * self.config.blocks + 1 + 4

    def forward(self, stacked: Tensor) -> Tensor:
        """Fuse a batch.

        Parameters
        ----------
        stacked
            (B, 3 * planes, Y, X) float tensor in [0, 1]: the planes by increasing z, each RGB.

        Returns
        -------
        (B, 3, Y, X) tensor in [0, 1]
        """
        features = self.head(stacked)
        return (torch.tanh(self.tail(features + self.body(features))) + 1) / 2
