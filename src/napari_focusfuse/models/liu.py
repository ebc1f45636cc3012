"""The convolutional network of Liu et al. (Information Fusion 2017): which of two planes is sharp.

It classifies pairs of 16 x 16 px patches and was made to choose, not to restore.  Its last layers
are convolutions, so an image of any size is classified at once, one pair of patches each two
pixels.  What turns its scores into a fused picture is no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

PATCH = 16
"""Side in pixels of what one pair of scores is about."""


@dataclass(frozen=True)
class LiuConfig:
    """Size of a :class:`LiuClassifier`."""

    width: int = 64
    """Channels of the first convolution; 64 in the original."""


class LiuClassifier(nn.Module):
    """Two branches of the same weights, one for each plane, whose features meet in an 8x8 patch.

    Convolutions continue the border pixels outward.  A patch cut out and classified by itself thus
    sees its own border continued where the whole image shows its neighbours; the scores of the two
    differ a little, as they do in the original.
    """

    multiple_of = 2
    reach = PATCH - 1 + 4
    """How far in pixels a pixel looks to each side: patches that hold it, and what their three
    convolutions see around them.
    """

    def __init__(self, config: LiuConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.branch = nn.Sequential(
            *_stage(1, width),
            *_stage(width, 2 * width),
            nn.MaxPool2d(2),
            *_stage(2 * width, 4 * width),
        )
        # No activation between these two: in the original's own inference there is none.
        self.merge = nn.Conv2d(8 * width, 4 * width, PATCH // 2)
        self.classify = nn.Conv2d(4 * width, 2, 1)

    def forward(self, pair: Tensor) -> Tensor:
        """Classify a batch.

        Parameters
        ----------
        pair
            (B, 2, Y, X) float tensor in [0, 1]: two planes in grey; Y and X even, at least 16.

        Returns
        -------
        (B, 2, Y / 2 - 7, X / 2 - 7) tensor of logits: the first plane is sharper, the second is; at
        (i, j) of the patch whose first pixel is (2 i, 2 j)
        """
        first, second = (self.branch(plane) for plane in pair.split(1, dim=1))
        return self.compare(first, second)

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the logits of two planes' features, which ``branch`` makes of one plane each."""
        logits: Tensor = self.classify(self.merge(torch.cat([first, second], dim=1)))
        return logits


def _stage(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.ReLU]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")
    return convolution, nn.ReLU()
