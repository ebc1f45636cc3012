"""FusionGAN's generator (Ma et al., Information Fusion 2019), as a rival to compare with.

It was made to fuse an infrared with a visible image.  Here it takes RGB planes and gives RGB, and
pads its convolutions so that the size stays; otherwise it is the original.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True)
class FusionGanConfig:
    """Size of a :class:`FusionGanGenerator`."""

    planes: int = 3
    """Focal planes it takes."""
    width: int = 256
    """Channels of the first convolution, halved by each of the next three; 256 in the original."""


class FusionGanGenerator(nn.Module):
    """Five convolutions at full resolution: 5x5, 5x5, 3x3, 3x3 and 1x1.

    Every weight is divided by its largest singular value.  Batch normalisation takes the statistics
    of the batch in training and running ones in evaluation: with few patches a batch the two
    differ, which is the original's weakness too.
    """

    multiple_of = 1
    reach = 2 + 2 + 1 + 1
    """How far in pixels an output pixel looks to each side."""

    def __init__(self, config: FusionGanConfig) -> None:
        super().__init__()
        self.config = config
        channels = [3 * config.planes, *(max(1, config.width >> index) for index in range(4))]
        self.body = nn.Sequential(
            *(
                layer
                for index, size in enumerate((5, 5, 3, 3))
                for layer in _stage(channels[index], channels[index + 1], size)
            )
        )
        self.tail = spectral_norm(nn.Conv2d(channels[4], 3, 1))

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
        return (torch.tanh(self.tail(self.body(2 * stacked - 1))) + 1) / 2


def _stage(inputs: int, outputs: int, size: int) -> tuple[nn.Module, ...]:
    # A bias before the normalisation would be subtracted again.
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return spectral_norm(convolution), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
