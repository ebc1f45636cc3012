"""The critics: networks that tell fused images from real ones.  They live during training only.

All return logits; the sigmoid the papers draw at the end is inside the loss, where it is exact for
large values too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from napari_focusfuse.model_card import ModelError
from napari_focusfuse.models import read_settings
from napari_focusfuse.models.pix2pix import draw_weights, instance_norm

_SLOPE = 0.2
"""Of every leaky ReLU here."""
_GRID = 6
"""Side of the grid that dense layers read, as for the originals' patches."""


@dataclass(frozen=True)
class PatchConfig:
    """Which form of the paper's discriminator, and its size."""

    preset: Literal["paper", "code"] = "paper"
    """``"paper"``: eight convolutions, as the article counts them, of which the last gives the
    logit; ``"code"``: eight as wide as VGG's and a 1x1 convolution after the pooling, as in its
    authors' repository.
    """
    width: int = 64
    """Channels of the first convolution; 64 in the paper."""


@dataclass(frozen=True)
class FusionGanDiscriminatorConfig:
    """Size of a :class:`FusionGanDiscriminator`."""

    width: int = 32
    """Channels of the first convolution, doubled by each of the next three."""


@dataclass(frozen=True)
class SrGanDiscriminatorConfig:
    """Size of an :class:`SrGanDiscriminator`."""

    width: int = 64
    """Channels of the first convolution, doubled three times."""


@dataclass(frozen=True)
class Pix2PixDiscriminatorConfig:
    """Size of a :class:`Pix2PixDiscriminator`."""

    width: int = 64
    """Channels of the first convolution, doubled three times."""


class PatchDiscriminator(nn.Module):
    """The paper's PatchGAN (section 3.2.2): one logit for each 64 x 64 pixels.

    3x3 convolutions, every second one of stride 2 and the one after it doubling the channels, then
    max-pooling by 4.  Neighbouring logits are 64 px apart, but each sees more than its 64 px
    square: 109 px.  It never sees the input stack, in the paper's formula and code alike, although
    both call the network conditional.

    Batch normalisation keeps PyTorch's momentum (0.1): the authors' repository leaves it alone
    here, and as a discriminator only ever runs in training mode, by the statistics of its batch,
    the running ones are never read.
    """

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if config.preset == "code":
            self.convolutions = nn.Sequential(*_vgg(width, 8))
            self.end = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(8 * width, 1, 1))
        else:  # the logit itself is neither normalised nor bent
            self.convolutions = nn.Sequential(*_vgg(width, 7))
            last = nn.Conv2d(8 * width, 1, 3, stride=2, padding=1)
            self.end = nn.Sequential(last, nn.MaxPool2d(4))

    def forward(self, image: Tensor, stacked: Tensor | None = None) -> Tensor:
        """Judge a batch.

        Parameters
        ----------
        image
            (B, 3, Y, X) float tensor in [0, 1], fused or real; Y and X at least 64.
        stacked
            Ignored.

        Returns
        -------
        (B, 1, Y / 64, X / 64) logits: positive where the image looks real
        """
        logits: Tensor = self.end(self.convolutions(image))
        return logits


class FusionGanDiscriminator(nn.Module):
    """FusionGAN's: four 3x3 convolutions of stride 2, and a linear layer.

    As in the original no convolution pads, all but the first are batch-normalised, and every weight
    is divided by its largest singular value.  The original knows one size, 120 px, which comes to a
    grid of 6 x 6; features of other sizes are averaged to that grid.
    """

    def __init__(self, config: FusionGanDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = [3, *(config.width << index for index in range(4))]
        self.convolutions = nn.Sequential(
            *(
                layer
                for index in range(4)
                for layer in (
                    spectral_norm(
                        nn.Conv2d(channels[index], channels[index + 1], 3, 2, bias=index == 0)
                    ),
                    *((nn.BatchNorm2d(channels[index + 1]),) if index else ()),
                    nn.LeakyReLU(_SLOPE),
                )
            ),
            nn.AdaptiveAvgPool2d(_GRID),
        )
        self.end = spectral_norm(nn.Linear(channels[4] * _GRID**2, 1))

    def forward(self, image: Tensor, stacked: Tensor | None = None) -> Tensor:
        """Judge a batch of (B, 3, Y, X) images in [0, 1], at least 31 px; return (B, 1) logits."""
        logits: Tensor = self.end(self.convolutions(2 * image - 1).flatten(1))
        return logits


class SrGanDiscriminator(nn.Module):
    """SRGAN's: eight convolutions as in VGG, every second one of stride 2, and two dense layers.

    The original knows one size, 96 px, which comes to a grid of 6 x 6; features of other sizes are
    averaged to that grid.
    """

    def __init__(self, config: SrGanDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.convolutions = nn.Sequential(*_vgg(width, 8), nn.AdaptiveAvgPool2d(_GRID))
        self.end = nn.Sequential(
            nn.Linear(8 * width * _GRID**2, 16 * width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(16 * width, 1),
        )

    def forward(self, image: Tensor, stacked: Tensor | None = None) -> Tensor:
        """Judge a batch of (B, 3, Y, X) images in [0, 1], at least 32 px; return (B, 1) logits."""
        logits: Tensor = self.end(self.convolutions(2 * image - 1).flatten(1))
        return logits


class Pix2PixDiscriminator(nn.Module):
    """Pix2Pix' conditional PatchGAN: 4x4 convolutions whose logits each see 70 x 70 px."""

    def __init__(self, config: Pix2PixDiscriminatorConfig, planes: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.layers = nn.Sequential(
            *_stage(3 * planes + 3, width, size=4, stride=2, norm=None),
            *_stage(width, 2 * width, size=4, stride=2, norm=instance_norm),
            *_stage(2 * width, 4 * width, size=4, stride=2, norm=instance_norm),
            *_stage(4 * width, 8 * width, size=4, norm=instance_norm),
            nn.Conv2d(8 * width, 1, 4, padding=1),
        )
        draw_weights(self)

    def forward(self, image: Tensor, stacked: Tensor | None = None) -> Tensor:
        """Judge a batch.

        Parameters
        ----------
        image
            (B, 3, Y, X) float tensor in [0, 1], fused or real; Y and X at least 24.
        stacked
            (B, 3 * planes, Y, X) float tensor in [0, 1]: what it is fused from.

        Returns
        -------
        (B, 1, Y / 8 - 2, X / 8 - 2) logits

        Raises
        ------
        ValueError
            If ``stacked`` is None.
        """
        if stacked is None:
            raise ValueError("the pix2pix discriminator judges an image with what it came from")
        logits: Tensor = self.layers(2 * torch.cat([stacked, image], dim=1) - 1)
        return logits


_UNCONDITIONAL: dict[str, tuple[Any, Any]] = {
    "patch": (PatchDiscriminator, PatchConfig),
    "fusiongan": (FusionGanDiscriminator, FusionGanDiscriminatorConfig),
    "srgan": (SrGanDiscriminator, SrGanDiscriminatorConfig),
}
_CONDITIONAL: dict[str, tuple[Any, Any]] = {
    "pix2pix": (Pix2PixDiscriminator, Pix2PixDiscriminatorConfig),
}
_DISCRIMINATORS = _UNCONDITIONAL | _CONDITIONAL


def build_discriminator(name: str, planes: int, config: Mapping[str, object]) -> nn.Module:
    """Make a discriminator with fresh weights.

    Parameters
    ----------
    name
        ``"patch"`` (the paper's), ``"fusiongan"``, ``"pix2pix"`` or ``"srgan"``.
    planes
        How many focal planes the generator fuses.
    config
        Fields of the configuration class beside the discriminator; others keep their defaults.

    Raises
    ------
    ModelError
        If the discriminator or a field is unknown, or a value is impossible.
    """
    if name not in _DISCRIMINATORS:
        known = ", ".join(_DISCRIMINATORS)
        raise ModelError(f"The discriminator {name!r} is unknown; known are {known}.")
    network, settings = _DISCRIMINATORS[name]
    values = read_settings(settings, config, f"discriminator {name!r}")
    module: nn.Module = network(values, planes) if name in _CONDITIONAL else network(values)
    return module


def _vgg(width: int, count: int) -> list[nn.Module]:
    """Return the first 3x3 convolutions of VGG's widths, every second one of stride 2.

    All but the first are batch-normalised.
    """
    channels = [3, *(width << (index // 2) for index in range(count))]
    return [
        layer
        for index in range(count)
        for layer in _stage(
            channels[index],
            channels[index + 1],
            stride=1 + index % 2,
            norm=nn.BatchNorm2d if index else None,
        )
    ]


def _stage(
    inputs: int,
    outputs: int,
    *,
    size: int = 3,
    stride: int = 1,
    norm: Callable[[int], nn.Module] | None,
) -> list[nn.Module]:
    """Return a convolution with a border of one pixel, its normalisation and a leaky ReLU."""
    # A bias before a normalisation would be subtracted again.
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=norm is None)
    normalisation = [] if norm is None else [norm(outputs)]
    return [convolution, *normalisation, nn.LeakyReLU(_SLOPE)]
