"""The swift generator: a small network that corrects a blend of its focal planes.

It departs from the paper's generator in six ways, each for a reason.  Dense 3x3 convolutions run
at half resolution and below only, where a CPU is efficient.  Its output is a blend of its planes
plus a correction; the blend starts from the Laplacian-energy selection and the correction from
nothing, so doing nothing is its default.  The correction loses what a Gaussian of
:data:`TONE_SIGMA_PX` leaves of it: tone is not the network's to change.  It cannot leave the range
of the planes around by more than half, so that nothing comes of nothing.  It is told how far planes
and pixels lie apart, where that is known, because they decide what blur looks like.  And it says
how far it expects to be off.  It has no global statistic (no instance norm, no global pooling), so
a tile's output never depends on what else is in the tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .selection import SelectionConfig, blur, decision_map, select

TONE_SIGMA_PX = 8.0
"""What a Gaussian this wide leaves of a picture is tone: light, stain, thickness, not focus."""
_TONE_GRID = 4
_TONE_RADIUS = 4
"""On that grid; four pixels of it are twice the sigma."""
_RANGE_GRID = 4
_RANGE_RADIUS = 4
"""The range of the planes is taken of so many such squares to each side of a pixel's own."""
_BEYOND = 0.5
"""Share of that range by which the result may leave it: blur takes contrast from small things."""
_UNCHOSEN = 0.01
"""Weight at which the blend starts for planes the selection left out: 0 could not be learnt."""
_FIRST_ERROR = -4.0
"""Logarithm of the error expected before anything is learnt: 5 grey levels."""
_ERROR_SPAN = 3.0
"""How far it moves at most, up or down: from a quarter of a grey level to 90."""


@dataclass(frozen=True)
class SwiftConfig:
    """Size of a :class:`SwiftGenerator`."""

    planes: int = 3
    """Focal planes it takes."""
    width: int = 40
    """Channels at half resolution; a quarter has twice, an eighth four times as many."""
    half_blocks: int = 1
    """Residual blocks at half resolution, before and again after what lies below."""
    quarter_blocks: int = 1
    """The same at a quarter."""
    eighth_blocks: int = 2
    """Residual blocks at an eighth."""


class Restoration(NamedTuple):
    """What a :class:`SwiftGenerator` returns."""

    fused: Tensor
    """(B, 3, Y, X), about [0, 1]; not clipped, so that gradients survive at the ends."""
    log_error: Tensor
    """(B, 1, Y, X): logarithm of the mean absolute error to expect, in units of white."""
    correction: Tensor
    """(B, 3, Y, X): what of ``fused`` comes from no plane."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        # Blocks that start from nothing let the whole start at a high rate.
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with the block's correction added, same shape."""
        return features + self.second(functional.leaky_relu(self.first(features), 0.1))


class Modulation(nn.Module):
    """Scales and shifts features by what is known of the sampling (FiLM, Perez et al. 2018)."""

    def __init__(self, knowns: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(knowns, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, sampling: Tensor) -> Tensor:
        """Return (B, C, Y, X) features under (B, knowns) numbers."""
        scale, shift = self.linear(sampling)[..., None, None].chunk(2, dim=1)
        return features * (1 + scale) + shift


class SwiftGenerator(nn.Module):
    """Fuse and restore one or several focal planes.

    Height and width must be multiples of :attr:`multiple_of`.
    """

    multiple_of = 8

    def __init__(self, config: SwiftConfig) -> None:
        super().__init__()
        self.config = config
        self.selection = SelectionConfig()
        planes, width = config.planes, config.width
        # Several planes come with the selection and its weights: the network need not redo them.
        inputs = 3 if planes == 1 else 3 * planes + 3 + planes
        self.head = nn.Conv2d(4 * inputs, width, 3, padding=1)
        self.told_half = Modulation(planes, width)
        self.half_before = _blocks(width, config.half_blocks)
        self.down_quarter = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.quarter_before = _blocks(2 * width, config.quarter_blocks)
        self.down_eighth = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.told_eighth = Modulation(planes, 4 * width)
        self.bottom = _blocks(4 * width, config.eighth_blocks)
        self.up_quarter = nn.Conv2d(4 * width, 8 * width, 1)
        self.quarter_after = _blocks(2 * width, config.quarter_blocks)
        self.up_half = nn.Conv2d(2 * width, 4 * width, 1)
        self.half_after = _blocks(width, config.half_blocks)
        # At each pixel three colours of correction, the error to expect and, with several planes,
        # a say in their blend.
        self.tail = nn.Conv2d(width, 4 * (4 + (planes if planes > 1 else 0)), 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    @property
    def reach(self) -> int:
        """Upper bound in pixels of how far an output pixel looks to each side.

        A 3x3 convolution adds the size of its input's pixel; shuffling and striding add at most
        one pixel of the coarsest grid less one.
        """
        half = 2 * (2 + 4 * self.config.half_blocks + 1)
        quarter = 4 * (4 * self.config.quarter_blocks + 1)
        eighth = 8 * 2 * self.config.eighth_blocks
        chosen = self.selection.reach if self.config.planes > 1 else 0
        tone = _TONE_GRID * (_TONE_RADIUS + 2)
        return half + quarter + eighth + 7 + chosen + tone

    def forward(self, stacked: Tensor, sampling: Tensor | None = None) -> Restoration:
        """Fuse a batch.

        Parameters
        ----------
        stacked
            (B, 3 * planes, Y, X) float tensor in [0, 1]: the planes by increasing z, each RGB.
        sampling
            (B, planes) float tensor: :meth:`napari_focusfuse.sampling.Sampling.octaves`; None:
            nothing is known.
        """
        if sampling is None:
            sampling = stacked.new_zeros(len(stacked), self.config.planes)
        if self.config.planes == 1:
            found = self._features(stacked, sampling).float()
            blend = stacked
        else:
            planes = stacked.unflatten(1, (self.config.planes, 3))
            # The decision compares small energies, and the blend carries the noise of the planes:
            # neither survives reduced precision.
            with torch.autocast(stacked.device.type, enabled=False):
                weights = decision_map(planes.float(), self.selection)
                base = select(planes.float(), weights)
            inputs = torch.cat([stacked, base, weights], dim=1)
            found = self._features(inputs, sampling).float()
            logits = torch.log(weights + _UNCHOSEN) + found[:, 4:]
            blend = select(planes, logits.softmax(dim=1))
        correction = without_tone(found[:, :3])
        fused = _bounded(blend + correction, stacked.unflatten(1, (self.config.planes, 3)).float())
        log_error = _FIRST_ERROR + _ERROR_SPAN * torch.tanh(found[:, 3:4] / _ERROR_SPAN)
        return Restoration(fused, log_error, fused - blend)

    def _features(self, inputs: Tensor, sampling: Tensor) -> Tensor:
        """Return (B, 4 or 4 + planes, Y, X): correction, error, and logits of the blend."""
        half = self.told_half(self.head(functional.pixel_unshuffle(inputs, 2)), sampling)
        half = self.half_before(half)
        quarter = self.quarter_before(self.down_quarter(half))
        eighth = self.told_eighth(self.down_eighth(quarter), sampling)
        eighth = self.bottom(eighth)
        quarter = quarter + functional.pixel_shuffle(self.up_quarter(eighth), 2)
        half = half + functional.pixel_shuffle(self.up_half(self.quarter_after(quarter)), 2)
        return functional.pixel_shuffle(self.tail(self.half_after(half)), 2)


def without_tone(images: Tensor) -> Tensor:
    """Return (B, C, Y, X) images less what a Gaussian of ``TONE_SIGMA_PX`` leaves of them.

    The Gaussian is taken on a grid of every fourth pixel, on which it is as good and far cheaper.
    """
    small = blur(
        functional.avg_pool2d(images, _TONE_GRID), TONE_SIGMA_PX / _TONE_GRID, _TONE_RADIUS
    )
    tone = functional.interpolate(small, scale_factor=_TONE_GRID, mode="bilinear")
    return images - tone


def _bounded(fused: Tensor, planes: Tensor) -> Tensor:
    """Return (B, 3, Y, X) images that leave the local range of (B, Z, 3, Y, X) planes by half."""
    highest, lowest = _highest(planes.amax(dim=1)), -_highest(-planes.amin(dim=1))
    beyond = _BEYOND * (highest - lowest)
    return fused.clamp(lowest - beyond, highest + beyond)


def _highest(images: Tensor) -> Tensor:
    """Return the highest value around each pixel, in squares of a fixed grid."""
    side = 2 * _RANGE_RADIUS + 1
    squares = functional.max_pool2d(images, _RANGE_GRID)
    for size in ((side, 1), (1, side)):
        padding = (size[0] // 2, size[1] // 2)
        squares = functional.max_pool2d(squares, size, stride=1, padding=padding)
    return functional.interpolate(squares, scale_factor=_RANGE_GRID, mode="nearest")


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
