"""The paper's blur model: DeepLabv3 on ResNet-50, which segments a plane into sharp and blurred.

The trunk is ResNet-50 up to its 40th activation (He et al., CVPR 2016), the head is atrous spatial
pyramid pooling without the image-pooling branch (Chen et al., arXiv 1706.05587), so that the output
at one place never depends on the size of the tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class BlurConfig:
    """Which form of the paper's blur model, and its size."""

    preset: Literal["paper", "code"] = "paper"
    """``"paper"``: the classic head, rates 6, 12 and 18; ``"code"``: that of the repository, three
    residual blocks of rate 2 and then chains of three blocks at rates 4, 8 and 12.
    """
    width: int = 64
    """Channels of the first convolution; 64 in ResNet-50."""


class Bottleneck(nn.Module):
    """ResNet's block of three convolutions, added to its input or to a projection of it."""

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        *,
        sizes: tuple[int, int, int] = (1, 3, 1),
        stride: int = 1,
        rate: int = 1,
        projects: bool = True,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv(inputs, inner, sizes[0]),
            nn.ReLU(inplace=True),
            *_conv(inner, inner, sizes[1], stride=stride, rate=rate),
            nn.ReLU(inplace=True),
            *_conv(inner, outputs, sizes[2]),
        )
        self.shortcut = (
            nn.Sequential(*_conv(inputs, outputs, 1, stride=stride)) if projects else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, outputs, Y / stride, X / stride) features."""
        return functional.relu(self.shortcut(features) + self.residual(features))


class BlurModel(nn.Module):
    """Segment the blurred regions of one plane.

    Height and width must be multiples of :attr:`multiple_of`, the trunk's stride: the coarse grid
    is then anchored to the tile's origin and no padding is invented.
    """

    multiple_of = 16

    def __init__(self, config: BlurConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.trunk = nn.Sequential(
            *_conv(3, width, 7, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
            *_blocks(width, width, 4 * width, count=3),
            *_blocks(4 * width, 2 * width, 8 * width, count=4, stride=2),
            *_blocks(8 * width, 4 * width, 16 * width, count=6, stride=2),
        )
        head = ClassicHead if config.preset == "paper" else RepositoryHead
        self.head = head(16 * width, width)

    @property
    def reach(self) -> int:
        """Upper bound in pixels of how far an output pixel looks to each side."""
        trunk = 3 + 2 + 3 * 4 + (4 + 3 * 8) + (8 + 5 * 16)
        return trunk + self.head.reach + 2 * 16  # bilinear upsampling, and the coarse grid

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Parameters
        ----------
        images
            (B, 3, Y, X) float tensor in [0, 1].

        Returns
        -------
        (B, 2, Y, X) tensor of logits: sharp, blurred; P(blur) is channel 1 of their softmax
        """
        logits: Tensor = self.head(self.trunk(images))
        return logits


class ClassicHead(nn.Module):
    """Atrous spatial pyramid pooling as in DeepLabv3, at stride 16."""

    reach = 18 * 16

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.branches = nn.ModuleList(
            nn.Sequential(
                *_conv(inputs, inner, 1 if rate == 1 else 3, rate=rate), nn.ReLU(inplace=True)
            )
            for rate in (1, 6, 12, 18)
        )
        self.merge = nn.Sequential(*_conv(4 * inner, inner, 1), nn.ReLU(inplace=True))
        self.classify = nn.Conv2d(inner, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 2, 16 Y, 16 X) logits."""
        pyramid = torch.cat([branch(features) for branch in self.branches], dim=1)
        return _upsampled(self.classify(self.merge(pyramid)))


class RepositoryHead(nn.Module):
    """The head of the authors' repository: deeper, narrower, with its last block at full size.

    Projections are normalised as in its first version; the later port has a ReLU there instead.
    """

    reach = (3 * 2 + 3 * 12 + 5) * 16 + 1

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        inner, narrow, last = 4 * width, 2 * width, max(1, 3 * width // 16)
        self.context = nn.Sequential(*_blocks(inputs, inner, inputs, rate=2))
        self.local = Bottleneck(inputs, inner, width, sizes=(1, 1, 1))
        self.chains = nn.ModuleList(
            nn.Sequential(
                *_blocks(inputs, inner, inner, rate=rate),
                *_conv(inner, width, 1),
                nn.ReLU(inplace=True),
            )
            for rate in (4, 8, 12)
        )
        self.merge = nn.Sequential(
            Bottleneck(4 * width, narrow, narrow),
            *(
                Bottleneck(narrow, narrow, narrow, sizes=(1, 3, 3), projects=False)
                for _ in range(2)
            ),
            *_conv(narrow, width // 4, 1),
            nn.ReLU(inplace=True),
        )
        self.refine = Bottleneck(width // 4, last, last)
        self.classify = nn.Conv2d(last, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 2, 16 Y, 16 X) logits."""
        features = self.context(features)
        branches = [self.local(features), *(chain(features) for chain in self.chains)]
        logits: Tensor = self.classify(
            self.refine(_upsampled(self.merge(torch.cat(branches, dim=1))))
        )
        return logits


def _conv(
    inputs: int, outputs: int, size: int, *, stride: int = 1, rate: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a convolution that keeps the size but for its stride, and its normalisation."""
    convolution = nn.Conv2d(
        inputs, outputs, size, stride, padding=size // 2 * rate, dilation=rate, bias=False
    )
    # Keras' momentum of 0.99, which the authors used, is 0.01 in PyTorch's counting.
    return convolution, nn.BatchNorm2d(outputs, momentum=0.01)


def _blocks(
    inputs: int, inner: int, outputs: int, *, count: int = 3, stride: int = 1, rate: int = 1
) -> list[Bottleneck]:
    """Return blocks of which the first projects and strides."""
    rest = (
        Bottleneck(outputs, inner, outputs, rate=rate, projects=False) for _ in range(count - 1)
    )
    return [Bottleneck(inputs, inner, outputs, stride=stride, rate=rate), *rest]


def _upsampled(coarse: Tensor) -> Tensor:
    return functional.interpolate(coarse, scale_factor=16, mode="bilinear", align_corners=False)
