"""Losses of the generators and of the blur model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_focusfuse.models.selection import GREY

_C1, _C2 = 0.01**2, 0.03**2


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean SSIM of grey images under an 11x11 Gaussian of sigma 1.5 (Wang et al. 2004).

    Parameters
    ----------
    image, truth
        (B, 3, Y, X) float tensors in [0, 1].

    Returns
    -------
    scalar tensor; the differentiable twin of ``napari_focusfuse.metrics.ssim_paper``
    """
    weights = torch.tensor(GREY, dtype=torch.float32, device=image.device).view(1, 3, 1, 1)
    x, y = ((i.float() * weights).sum(dim=1, keepdim=True) for i in (image, truth))
    offsets = torch.arange(-5, 6, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    kernel = kernel / kernel.sum()
    moments = torch.cat([x, y, x * x, y * y, x * y])
    moments = functional.conv2d(moments, kernel.view(1, 1, -1, 1))
    mx, my, xx, yy, xy = functional.conv2d(moments, kernel.view(1, 1, 1, -1)).chunk(5)
    numerator = (2 * mx * my + _C1) * (2 * (xy - mx * my) + _C2)
    return (numerator / ((mx * mx + my * my + _C1) * (xx - mx * mx + yy - my * my + _C2))).mean()


def generator_loss(image: Tensor, truth: Tensor, ssim_weight: float) -> Tensor:
    """Return mean absolute error (paper, equation 2) plus ``ssim_weight`` times 1 - SSIM."""
    error = (image.float() - truth).abs().mean()
    return error + ssim_weight * (1 - ssim(image, truth))


def blur_loss(logits: Tensor, blurred: Tensor) -> Tensor:
    """Return the cross-entropy of (B, 2, Y, X) logits against a (B, Y, X) bool mask."""
    return functional.cross_entropy(logits.float(), blurred.long())
