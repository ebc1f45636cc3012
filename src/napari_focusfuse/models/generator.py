"""The paper's generator: a U-Net with DenseBlocks that fuses and restores one or several planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class GeneratorConfig:
    """Which form of the paper's generator, and its size."""

    preset: Literal["paper", "code"] = "paper"
    """``"paper"``: as the article describes it; ``"code"``: as its authors' repository computes.

    They differ in the DenseBlock (concatenating or adding), in the upsampling (bilinear or
    nearest), in the activation inside the blocks (PReLU or leaky ReLU) and in three convolutions at
    the end of the decoder's levels, which only the repository has.
    """
    planes: int = 1
    """Focal planes it takes."""
    mask: bool = True
    """Whether each plane comes with its blur mask as a fourth channel."""
    width: int = 64
    """Channels at full resolution; 64 in the paper."""


class ConcatenatingBlock(nn.Module):
    """The DenseBlock of the paper: each convolution reads the block's input and all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.first = _conv(channels, growth)
        self.second = _conv(channels + growth, growth)
        self.last = nn.Conv2d(channels + 2 * growth, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with half the block's output added, same shape."""
        dense = torch.cat([features, self.first(features)], dim=1)
        dense = torch.cat([dense, self.second(dense)], dim=1)
        return features + 0.5 * self.last(dense)


class AddingBlock(nn.Module):
    """The DenseBlock of the authors' repository, without the two modules it never calls.

    There every output is added to all before it; with ``a`` and ``b`` the activated convolutions,
    those sums come to ``4 x + 2 a + b``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with half the block's output added, same shape."""
        a = functional.leaky_relu(self.first(features), 0.01)
        b = functional.leaky_relu(self.second(features + a), 0.01)
        return features + 0.5 * self.last(4 * features + 2 * a + b)


class Generator(nn.Module):
    """Fuse and restore one or several focal planes, guided by their blur masks.

    Height and width must be multiples of :attr:`multiple_of`: three poolings halve them.
    """

    multiple_of = 8

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        channels = config.planes * (4 if config.mask else 3)
        self.head = _conv(channels, width, size=9)
        self.down1 = self._level(width, width)
        self.down2 = self._level(width, 2 * width)
        self.down3 = self._level(2 * width, 4 * width)
        self.bottom = nn.Sequential(
            _conv(4 * width, 8 * width), _conv(8 * width, 8 * width), _conv(8 * width, 4 * width)
        )
        # The repository narrows before upsampling, the paper where it concatenates.
        code = config.preset == "code"
        narrow2, narrow1 = (2 * width, width) if code else (4 * width, 2 * width)
        self.up3 = self._level(4 * width + 4 * width, 4 * width, 2 * width if code else None)
        self.up2 = self._level(2 * width + narrow2, 2 * width, width if code else None)
        self.up1 = self._level(width + narrow1, width, width if code else None)
        self.tail = nn.Conv2d(width, 3, 9, padding=4)
        self._initialise()

    @property
    def reach(self) -> int:
        """Upper bound in pixels of how far an output pixel looks to each side."""
        level = 1 + 2 * 3  # a convolution and two blocks of three
        encoder, bottom = level * (1 + 2 + 4), 8 * 3
        decoder = (level + (self.config.preset == "code")) * (4 + 2 + 1)
        # Pooling aligns to the coarse grid, bilinear upsampling mixes neighbours on it.
        resampling = (1 + 2 + 4) + (8 + 4 + 2)
        return 4 + encoder + bottom + decoder + 4 + resampling

    def forward(self, stacked: Tensor) -> Tensor:
        """Fuse a batch.

        Parameters
        ----------
        stacked
            (B, C, Y, X) float tensor in [0, 1]: the planes by increasing z, each RGB and then, if
            ``config.mask``, P(blur); C is ``planes * 4``, or ``planes * 3`` without masks.

        Returns
        -------
        (B, 3, Y, X) tensor in [0, 1]
        """
        # Centred, as networks ending in tanh expect; the paper does not say.  Uncentred, the bright
        # background dominates every feature, and learning is several times as slow.
        down1 = self.down1(self.head(2 * stacked - 1))
        down2 = self.down2(functional.avg_pool2d(down1, 2))
        down3 = self.down3(functional.avg_pool2d(down2, 2))
        features = self.bottom(functional.avg_pool2d(down3, 2))
        features = self.up3(torch.cat([down3, self._upsampled(features)], dim=1))
        features = self.up2(torch.cat([down2, self._upsampled(features)], dim=1))
        features = self.up1(torch.cat([down1, self._upsampled(features)], dim=1))
        return (torch.tanh(self.tail(features)) + 1) / 2

    def _initialise(self) -> None:
        """Start from He's weights (He et al., ICCV 2015); the paper does not say from what.

        PyTorch's default shrinks the signal at every layer, and without any normalisation the
        network then learns nothing but the mean colour for thousands of steps.  The last layer
        starts small: where tanh saturates no gradient comes back.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)  # the slope PReLU starts with
                module.bias.data.zero_()  # type: ignore[union-attr]  # all of ours have one
        with torch.no_grad():
            self.tail.weight.mul_(0.1)
            for module in self.modules():
                if isinstance(module, AddingBlock):  # its last layer reads a sum of seven
                    module.last.weight.mul_(0.2)

    def _level(self, inputs: int, outputs: int, narrowed: int | None = None) -> nn.Sequential:
        """Return one level: a convolution, two DenseBlocks and perhaps a narrowing convolution."""
        blocks = (self._block(outputs) for _ in range(2))
        end = () if narrowed is None else (_conv(outputs, narrowed),)
        return nn.Sequential(_conv(inputs, outputs), *blocks, *end)

    def _block(self, channels: int) -> nn.Module:
        if self.config.preset == "code":
            return AddingBlock(channels)
        return ConcatenatingBlock(channels, growth=self.config.width // 2)

    def _upsampled(self, features: Tensor) -> Tensor:
        if self.config.preset == "code":
            return functional.interpolate(features, scale_factor=2, mode="nearest")
        return functional.interpolate(
            features, scale_factor=2, mode="bilinear", align_corners=False
        )


def stack_with_masks(planes: Tensor, blur: nn.Module) -> Tensor:
    """Return what a generator with masks takes: each plane's RGB and then its P(blur).

    Parameters
    ----------
    planes
        (B, Z, 3, Y, X) float tensor in [0, 1].
    blur
        The blur model: (B, 3, Y, X) to (B, 2, Y, X) logits.

    Returns
    -------
    (B, Z * 4, Y, X) tensor in [0, 1], in the dtype of ``planes``
    """
    images = planes.flatten(0, 1)
    blurred = blur(images).float().softmax(dim=1)[:, 1:2]
    masked = torch.cat([images, blurred.to(images.dtype)], dim=1)
    return masked.unflatten(0, planes.shape[:2]).flatten(1, 2)


def _conv(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.PReLU())
