"""Pix2Pix' generator (Isola et al., CVPR 2017), as a rival to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_DROPPED = 3
"""How many decoder levels, from the bottom, drop half of their features in training."""


@dataclass(frozen=True)
class Pix2PixConfig:
    """Size of a :class:`Pix2PixGenerator`."""

    planes: int = 3
    """Focal planes it takes."""
    width: int = 64
    """Channels of the first convolution, doubled three times; 64 in the original."""
    levels: int = 8
    """Convolutions of stride 2; 8 in the original, for images of 256 px."""


class Pix2PixGenerator(nn.Module):
    """A U-Net of 4x4 convolutions of stride 2.

    Instance normalisation stands where the original has batch normalisation; at its batch size of
    one they are the same.  The bottom has none, as the authors corrected: a single pixel
    normalised is zero.  The original drops features when it is applied too, as its noise; here only
    in training, so that a picture comes out the same twice.
    """

    reach = 1 << 16
    """The largest a model card can state: instance normalisation makes every output pixel depend on
    all of its tile, so no margin covers the reach and the tiler can only anchor the tiles.
    """

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__()
        self.config = config
        levels = config.levels
        channels = [config.width << min(level, 3) for level in range(levels)]
        bottom = levels - 1
        self.encoder = nn.ModuleList(
            _level(
                channels[level - 1] if level else 3 * config.planes,
                channels[level],
                normalised=0 < level < bottom,
            )
            for level in range(levels)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(
                    channels[level] * (1 if level == bottom else 2),
                    channels[level - 1],
                    4,
                    stride=2,
                    padding=1,
                    bias=False,
                ),
                instance_norm(channels[level - 1]),
                nn.Dropout(0.5 if bottom - level < _DROPPED else 0.0),
            )
            for level in range(bottom, 0, -1)
        )
        self.tail = nn.ConvTranspose2d(2 * channels[0], 3, 4, stride=2, padding=1)
        draw_weights(self)

    @property
    def multiple_of(self) -> int:
        """What height and width must be multiples of."""
        return 1 << self.config.levels

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
        features = self.encoder[0](2 * stacked - 1)
        skips = []
        for down in self.encoder[1:]:
            skips.append(features)
            features = down(functional.leaky_relu(features, 0.2))
        for up in self.decoder:
            features = torch.cat([up(functional.relu(features)), skips.pop()], dim=1)
        return (torch.tanh(self.tail(functional.relu(features))) + 1) / 2


def draw_weights(network: nn.Module) -> None:
    """Draw fresh weights as the original: convolutions from N(0, 0.02), scales from N(1, 0.02)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.02)
        elif isinstance(layer, nn.InstanceNorm2d):
            nn.init.normal_(layer.weight, mean=1.0, std=0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _level(inputs: int, outputs: int, *, normalised: bool) -> nn.Sequential:
    """Return a convolution that halves the size, and its normalisation."""
    # A bias before the normalisation would be subtracted again.
    convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not normalised)
    return nn.Sequential(convolution, *((instance_norm(outputs),) if normalised else ()))


def instance_norm(channels: int) -> nn.InstanceNorm2d:
    """Return a normalisation of each image and channel by itself, then scaled and shifted."""
    return nn.InstanceNorm2d(channels, affine=True)
