"""The critics: networks that tell fused images from real ones.  They live during training only.

All return logits; the sigmoid the papers draw at the end is inside the loss, where it is exact for
large values too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from napari_focusfuse.model_card import ModelError
from napari_focusfuse.models import read_settings

_SLOPE = 0.2
"""Of every leaky ReLU here."""


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

    def __init__(self, planes: int, config: PatchConfig) -> None:
        super().__init__()
        del planes  # unconditional
        self.config = config
        width = config.width
        code = config.preset == "code"
        channels = [width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        self.convolutions = nn.Sequential(
            *_stage(3, channels[0]),
            *(
                layer
                for index in range(1, 8 if code else 7)
                for layer in _stage(
                    channels[index - 1], channels[index], stride=1 + index % 2, norm=nn.BatchNorm2d
                )
            ),
        )
        if code:
            self.end = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(channels[7], 1, 1))
        else:  # the logit itself is neither normalised nor bent
            last = nn.Conv2d(channels[6], 1, 3, stride=2, padding=1)
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


_DISCRIMINATORS: dict[str, tuple[Any, Any]] = {
    "patch": (PatchDiscriminator, PatchConfig),
}


def build_discriminator(name: str, planes: int, config: Mapping[str, object]) -> nn.Module:
    """Make a discriminator with fresh weights.

    Parameters
    ----------
    name
        ``"patch"`` (the paper's).
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
    module: nn.Module = network(planes, read_settings(settings, config, f"discriminator {name!r}"))
    return module


def _stage(
    inputs: int,
    outputs: int,
    *,
    size: int = 3,
    stride: int = 1,
    norm: type[nn.BatchNorm2d] | type[nn.InstanceNorm2d] | None = None,
) -> list[nn.Module]:
    """Return a convolution of half-size padding, its normalisation and a leaky ReLU."""
    # A bias before a normalisation would be subtracted again.
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=norm is None)
    normalisation = [] if norm is None else [norm(outputs)]
    return [convolution, *normalisation, nn.LeakyReLU(_SLOPE)]
