"""What a classifier of sharpness learns from: the same picture sharp and blurred, side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_focusfuse.models.selection import GREY, blur

SIGMA_PX = 2.0
LEVELS = 5
"""Blurring is repeated up to this often (Liu et al. 2017, section 3.2)."""


def focus_pairs(images: Tensor) -> tuple[Tensor, Tensor]:
    """Make pairs of planes of which one is sharper, by torch's random numbers.

    Parameters
    ----------
    images
        (B, 3, Y, X) float tensor in [0, 1]: sharp pictures.

    Returns
    -------
    pairs, sharper
        (B, 2, Y, X) tensor in grey, and (B,) long tensor: which of the two is the sharp one
    """
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)
    sharp = (images * weights).sum(dim=1, keepdim=True)
    repeats = torch.randint(1, LEVELS + 1, (len(images),)).tolist()
    # Gaussians one after the other are one Gaussian: their variances add up.
    soft = torch.cat(
        [blur(s[None], SIGMA_PX * n**0.5) for s, n in zip(sharp, repeats, strict=True)]
    )
    sharper = torch.randint(0, 2, (len(images),)).to(images.device)
    first_is_sharp = (sharper == 0).view(-1, 1, 1, 1)
    first = torch.where(first_is_sharp, sharp, soft)
    second = torch.where(first_is_sharp, soft, sharp)
    return torch.cat([first, second], dim=1), sharper


def pair_loss(classify: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy over all patches of fresh pairs, and the logits."""
    pairs, sharper = focus_pairs(images)
    logits = classify(pairs).float()
    target = sharper.view(-1, 1, 1).expand(-1, *logits.shape[-2:])
    return functional.cross_entropy(logits, target), logits


def pair_accuracy(classify: nn.Module, images: Tensor) -> float:
    """Return the share of patches classified rightly."""
    pairs, sharper = focus_pairs(images)
    chosen = classify(pairs).argmax(dim=1)
    return float((chosen == sharper.view(-1, 1, 1)).float().mean())
