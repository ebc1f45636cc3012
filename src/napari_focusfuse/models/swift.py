"""The swift generator: a small network that corrects a per-pixel selection of its focal planes.

It departs from the paper's generator in three ways, each for a reason.  Dense 3x3 convolutions run
at half and quarter resolution only, where a CPU is efficient.  Its output is a blend of its planes
plus a correction; the blend starts from the Laplacian-energy selection and the correction from
nothing, so doing nothing is its default.  Where planes agree it may average them, which keeps more
light than any selection; where none is sharp only the correction can help.  It has no global
statistic (no instance norm, no global pooling), so a tile's output never depends on what else is in
the tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .selection import SelectionConfig, decision_map, select

_UNCHOSEN = 0.01
"""Weight at which the blend starts for planes the selection left out: 0 could not be learnt."""


@dataclass(frozen=True)
class SwiftConfig:
    """Size of a :class:`SwiftGenerator`."""

    planes: int = 3
    """Focal planes it takes."""
    width: int = 40
    """Channels at half resolution; quarter resolution has twice as many."""
    half_blocks: int = 1
    """Residual blocks at half resolution, before and again after the quarter."""
    quarter_blocks: int = 4
    """Residual blocks at quarter resolution."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with the block's correction added, same shape."""
        return features + self.second(functional.leaky_relu(self.first(features), 0.1))


class SwiftGenerator(nn.Module):
    """Fuse and restore one or several focal planes.

    Height and width must be multiples of :attr:`multiple_of`.  The output is not clipped, so that
    gradients survive at the ends of the range; callers clip to [0, 1].
    """

    multiple_of = 4

    def __init__(self, config: SwiftConfig) -> None:
        super().__init__()
        self.config = config
        self.selection = SelectionConfig()
        planes, width = config.planes, config.width
        # Several planes come with the selection and its weights: the network need not redo them.
        inputs = 3 if planes == 1 else 3 * planes + 3 + planes
        self.head = nn.Conv2d(4 * inputs, width, 3, padding=1)
        self.before = nn.Sequential(*(ResidualBlock(width) for _ in range(config.half_blocks)))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.bottom = nn.Sequential(
            *(ResidualBlock(2 * width) for _ in range(config.quarter_blocks))
        )
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.after = nn.Sequential(*(ResidualBlock(width) for _ in range(config.half_blocks)))
        # At each pixel three colours of correction and, with several planes, a say in their blend.
        self.tail = nn.Conv2d(width, 4 * (3 + (planes if planes > 1 else 0)), 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    @property
    def reach(self) -> int:
        """Upper bound in pixels of how far an output pixel looks to each side.

        A 3x3 convolution adds the size of its input's pixel; shuffling and striding add at most
        one pixel of the coarsest grid less one.
        """
        half = 2 * (2 + 4 * self.config.half_blocks + 1)
        quarter = 4 * 2 * self.config.quarter_blocks
        chosen = self.selection.reach if self.config.planes > 1 else 0
        return half + quarter + 3 + chosen

    def forward(self, stacked: Tensor) -> Tensor:
        """Fuse a batch.

        Parameters
        ----------
        stacked
            (B, 3 * planes, Y, X) float tensor in [0, 1]: the planes by increasing z, each RGB.

        Returns
        -------
        (B, 3, Y, X) tensor, about [0, 1]
        """
        if self.config.planes == 1:
            return stacked + self._correction(stacked)
        planes = stacked.unflatten(1, (self.config.planes, 3))
        # The decision compares small energies, and the blend carries the noise of the planes:
        # neither survives reduced precision.
        with torch.autocast(stacked.device.type, enabled=False):
            weights = decision_map(planes.float(), self.selection)
            base = select(planes.float(), weights)
        correction = self._correction(torch.cat([stacked, base, weights], dim=1)).float()
        logits = torch.log(weights + _UNCHOSEN) + correction[:, 3:]
        return select(planes, logits.softmax(dim=1)) + correction[:, :3]

    def _correction(self, inputs: Tensor) -> Tensor:
        """Return (B, 3, Y, X) colours to add, and (B, planes, Y, X) logits of the blend below."""
        half = self.before(self.head(functional.pixel_unshuffle(inputs, 2)))
        quarter = self.bottom(self.down(half))
        half = self.after(half + functional.pixel_shuffle(self.up(quarter), 2))
        return functional.pixel_shuffle(self.tail(half), 2)
