"""Fusion by the network of Liu et al. 2017 (Information Fusion 36:191): which plane is sharper.

As in its authors' program: the scores of all patches that hold a pixel are averaged, the higher
wins, small islands are cleared away, and the guided filter of He, Sun & Tang smooths the choice
with the first fusion as guide (radius 8 px, epsilon 0.1).  Two things differ.  Islands give way to
the majority of 17 x 17 px, where the original removes regions below a hundredth of the picture: a
tile does not know the picture, and cells are smaller than that.  More than two planes, of which the
paper says nothing, are compared each with each and the one that wins most is taken: none comes
first, and the reach does not grow with their number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_focusfuse.model_card import ModelError
from napari_focusfuse.models.liu import PATCH, LiuClassifier
from napari_focusfuse.weights import load_model

from .bands import BandMethod, grey, running_sum
from .guided import box_mean, guided_filter
from .method import MethodInfo

ISLAND = 8
"""Pixels to each side whose majority decides."""
RADIUS = 8
EPSILON = 0.1
BEYOND = ISLAND + 2 * RADIUS
"""How much further in pixels the fusion looks than the network."""
_STRIDE = 2
"""Pixels from one patch to the next."""


class LiuMethod(BandMethod):
    """Blend the planes by what the network finds sharpest; nothing is inferred."""

    def __init__(self, info: MethodInfo, network: LiuClassifier, device: str = "cpu") -> None:
        super().__init__(info, device)
        self._network = network.to(device).eval()

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X)."""
        sharpest = _one_hot(box_mean(_one_hot(self.wins(grey(planes))), ISLAND))
        first = (planes * sharpest).sum(dim=0, keepdim=True)
        guides = grey(first).expand_as(sharpest)
        weights = guided_filter(sharpest, guides, RADIUS, EPSILON).clamp(0, 1)
        return (planes * weights).sum(dim=0, keepdim=True) / weights.sum(dim=0, keepdim=True)

    def wins(self, greys: Tensor) -> Tensor:
        """Return the (Z, 1, Y, X) sum over the others of the probability of being sharper."""
        features = [self._network.branch(plane[None]) for plane in greys]
        wins = torch.zeros_like(greys)
        for first in range(len(greys)):
            for second in range(first + 1, len(greys)):
                scores = self._network.compare(features[first], features[second])
                sharper = _spread(scores.softmax(dim=1)[:, :1])[0]
                wins[first] += sharper
                wins[second] += 1 - sharper
        return wins


def load_liu(info: MethodInfo, device: str = "cpu") -> LiuMethod:
    """Load a model of Liu's network.

    Raises
    ------
    ModelError
        If the file is damaged or changed since ``info`` was made.
    """
    if info.weights is None:
        raise ValueError(f"{info.name} has no weights to load")
    network, card = load_model(info.weights)
    if card.sha256 != info.model_hash:
        raise ModelError(f"{info.weights.name} has changed since it was chosen; choose it again.")
    assert isinstance(network, LiuClassifier)  # the catalogue chose by architecture
    return LiuMethod(info, network, device)


def _one_hot(values: Tensor) -> Tensor:
    """Return (Z, 1, Y, X) ones where a plane has the largest value, the first of those that tie."""
    first = values.argmax(dim=0, keepdim=True)
    return torch.zeros_like(values).scatter_(0, first, 1)


def _spread(scores: Tensor) -> Tensor:
    """Average at each pixel the scores of all patches that hold it.

    Parameters
    ----------
    scores
        (1, 1, Y / 2 - 7, X / 2 - 7) tensor, one score for a patch at every second pixel.

    Returns
    -------
    (1, 1, Y, X) tensor
    """
    across = PATCH // _STRIDE
    total, count = scores, torch.ones_like(scores)
    for axis in (2, 3):
        border = (0, 0, across - 1, across - 1) if axis == 2 else (across - 1, across - 1, 0, 0)
        total, count = (
            running_sum(functional.pad(part, border).movedim(axis, 0), across).movedim(0, axis)
            for part in (total, count)
        )
    return functional.interpolate(total / count, scale_factor=_STRIDE, mode="nearest")
