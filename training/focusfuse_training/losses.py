"""Losses of the generators, of their adversaries, and of the blur models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from napari_focusfuse.models.selection import GREY
from napari_focusfuse.training_config import TrainingConfig

from .masks import UNKNOWN

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


def content_losses(image: Tensor, truth: Tensor, config: TrainingConfig) -> dict[str, Tensor]:
    """Return the weighted parts of a generator's loss that compare it with the truth.

    Parameters
    ----------
    image, truth
        (B, 3, Y, X) float tensors in [0, 1].

    Returns
    -------
    name to scalar; those of weight 0 are left out
    """
    image = image.float()
    parts: dict[str, tuple[float, Callable[[], Tensor]]] = {
        # The paper, equation 2.
        "absolute": (config.absolute_weight, lambda: (image - truth).abs().mean()),
        "squared": (config.squared_weight, lambda: (image - truth).square().mean()),
        "ssim": (config.ssim_weight, lambda: 1 - ssim(image, truth)),
        "gradient": (config.gradient_weight, lambda: _gradient_error(image, truth)),
        "frequency": (config.frequency_weight, lambda: _spectrum_error(image, truth)),
    }
    return {name: weight * loss() for name, (weight, loss) in parts.items() if weight}


def adversarial_loss(logits: Tensor, *, real: bool, kind: str) -> Tensor:
    """Return how far a discriminator's logits are from calling all patches real, or fake.

    ``"bce"`` is the binary cross-entropy of their sigmoid (the paper, equations 3 and 4).
    ``"lsgan"`` is the squared distance of the logits themselves from noisy labels, 0.7 to 1.2 for
    real and 0 to 0.3 for fake, as FusionGAN trains (Ma et al. 2019, Information Fusion 48).
    """
    logits = logits.float()
    if kind == "lsgan":
        low, high = (0.7, 1.2) if real else (0.0, 0.3)
        labels = low + (high - low) * torch.rand_like(logits)
        return (logits - labels).square().mean()
    labels = torch.full_like(logits, float(real))
    return functional.binary_cross_entropy_with_logits(logits, labels)


def blur_loss(logits: Tensor, blurred: Tensor) -> Tensor:
    """Return the cross-entropy of (B, 2, Y, X) logits against a (B, Y, X) uint8 mask.

    Where the mask says 255 nobody knows, and nothing is learnt.
    """
    known = (blurred != UNKNOWN).sum().clamp(min=1)
    total = functional.cross_entropy(
        logits.float(), blurred.long(), ignore_index=UNKNOWN, reduction="sum"
    )
    return total / known


def _gradient_error(image: Tensor, truth: Tensor) -> Tensor:
    error = image - truth
    down, right = error.diff(dim=-2), error.diff(dim=-1)
    return down.square().mean() + right.square().mean()


def _spectrum_error(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference of the spectra; "ortho" keeps it independent of size."""
    return torch.fft.rfft2(image - truth, norm="ortho").abs().mean()
