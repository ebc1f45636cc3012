"""Controls: what only denoises, and a blur mask without a network.  Learning must beat both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from napari_focusfuse.defocus import gaussian_blur
from napari_focusfuse.models.selection import blur, laplacian_energy
from napari_focusfuse.slide import UInt8Image

from .masks import BoolImage, Confusion


def gaussian(image: UInt8Image, sigma: float = 0.6) -> UInt8Image:
    """Denoise a (Y, X, 3) image by a Gaussian."""
    return np.rint(gaussian_blur(image.astype(np.float32), sigma)).astype(np.uint8)


def non_local_means(
    image: UInt8Image, noise: float, *, patch: int = 5, search: int = 7
) -> UInt8Image:
    """Denoise a (Y, X, 3) image by non-local means (Buades, Coll & Morel 2005, CVPR).

    Parameters
    ----------
    noise
        Standard deviation of the noise in grey levels; also the filter's strength.
    patch, search
        Sides of the compared patches and of the window they are sought in, odd, in pixels.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    reach = search // 2
    padded = functional.pad(pixels, (reach,) * 4, mode="reflect")
    total, weights = torch.zeros_like(pixels), torch.zeros_like(pixels[:, :1])
    height, width = image.shape[:2]
    for dy in range(search):
        for dx in range(search):
            shifted = padded[..., dy : dy + height, dx : dx + width]
            distance = ((pixels - shifted) ** 2).mean(dim=1, keepdim=True)
            distance = functional.avg_pool2d(
                distance, patch, stride=1, padding=patch // 2, count_include_pad=False
            )
            # Two noisy patches differ by 2 noise^2 even where the scene is equal.
            weight = torch.exp(-(distance - 2 * noise**2).clamp(min=0) / noise**2)
            total += weight * shifted
            weights += weight
    return (total / weights)[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def sharpness(image: UInt8Image, sigma: float = 8.0) -> npt.NDArray[np.float32]:
    """Return the log of the Laplacian's local variance (Pech-Pacheco et al. 2000), (Y, X)."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None, None].float() / 255.0
    energy = blur(laplacian_energy(tensor), sigma)[0, 0].numpy()
    return np.log(np.maximum(energy, 1e-12))


def fit_threshold(images: Sequence[UInt8Image], masks: Sequence[BoolImage]) -> float:
    """Return the sharpness below which to call a pixel blurred, of the best IoU over the images."""
    values = [sharpness(image)[::4, ::4] for image in images]
    truths = [mask[::4, ::4] for mask in masks]
    levels = np.linspace(0.02, 0.98, 97)
    candidates = np.quantile(np.concatenate([v.ravel() for v in values]), levels)

    def iou(threshold: float) -> float:
        counts = [Confusion.of(v < threshold, t) for v, t in zip(values, truths, strict=True)]
        return sum(counts, Confusion()).iou

    return float(max(candidates, key=iou))
