"""Losses of the generators, of their adversaries, and of the blur models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from napari_focusfuse.models.selection import GREY, blur
from napari_focusfuse.training_config import TrainingConfig

from .masks import UNKNOWN

_C1, _C2 = 0.01**2, 0.03**2
ODDS_POWER = 3.0
"""A blur model's odds are this power of the blur: 0.5 at the limit, 0.96 at thrice it."""


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
    moments = blur(torch.cat([x, y, x * x, y * y, x * y]), 1.5, 5)[..., 5:-5, 5:-5]
    mx, my, xx, yy, xy = moments.chunk(5)
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
        "overshoot": (config.overshoot_weight, lambda: _overshoot(image, truth)),
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


def expectation_loss(log_error: Tensor, image: Tensor, truth: Tensor) -> Tensor:
    """Return how ill an expected error suits the real one; the picture does not learn from it.

    The negative log-likelihood of errors under a Laplace distribution of that mean absolute value,
    less its constant.

    Parameters
    ----------
    log_error
        (B, 1, Y, X) logarithm of the expected error.
    image, truth
        (B, 3, Y, X) float tensors in [0, 1].
    """
    error = (image.detach().float() - truth).abs().mean(dim=1, keepdim=True)
    # Half a grey level of rounding is in every truth; less could not be told from none.
    error = error.clamp(min=0.5 / 255)
    return (error * torch.exp(-log_error) + log_error).mean()


def blur_losses(logits: Tensor, blurred: Tensor, ratio: Tensor) -> dict[str, Tensor]:
    """Return the losses of a blur model: whether a pixel is blurred, and where known how far.

    Parameters
    ----------
    logits
        (B, 2, Y, X): sharp, blurred.
    blurred
        (B, Y, X) uint8 mask, 255 where nobody knows.
    ratio
        (B, Y, X) float blur over that from which it counts, NaN where nobody knows.  The odds of
        being blurred are taken for its third power, so that they rank blur by its size.
    """
    losses = {"entropy": blur_loss(logits, blurred)}
    known = ~ratio.isnan()
    if known.any():
        found = (logits[:, 1] - logits[:, 0]).float()[known] / ODDS_POWER
        wanted = ratio[known].clamp(min=0.1).log()
        losses["size"] = functional.smooth_l1_loss(found, wanted, beta=0.1)
    return losses


def blur_loss(logits: Tensor, blurred: Tensor) -> Tensor:
    """Return the cross-entropy of (B, 2, Y, X) logits against a (B, Y, X) uint8 mask.

    Where the mask says 255 nobody knows, and nothing is learnt.
    """
    known = (blurred != UNKNOWN).sum().clamp(min=1)
    total = functional.cross_entropy(
        logits.float(), blurred.long(), ignore_index=UNKNOWN, reduction="sum"
    )
    return total / known


def _overshoot(image: Tensor, truth: Tensor) -> Tensor:
    """Return how far the image leaves the range of the truth within two pixels around."""
    highest, lowest = _highest(truth), -_highest(-truth)
    return (functional.relu(image - highest) + functional.relu(lowest - image)).mean()


def _highest(images: Tensor) -> Tensor:
    """Return the highest value within two pixels around; along one axis at a time costs half."""
    rows = functional.max_pool2d(images, (5, 1), stride=1, padding=(2, 0))
    return functional.max_pool2d(rows, (1, 5), stride=1, padding=(0, 2))


def _gradient_error(image: Tensor, truth: Tensor) -> Tensor:
    error = image - truth
    down, right = error.diff(dim=-2), error.diff(dim=-1)
    return down.square().mean() + right.square().mean()


def _spectrum_error(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference of the spectra; "ortho" keeps it independent of size."""
    return torch.fft.rfft2(image - truth, norm="ortho").abs().mean()
