"""Classical restorations of one plane: what a careless network joins.

``python -m focusfuse_training.restoration --data FOLDER`` tries their settings on the data set's
validation image, imaged at +-8 um, and prints how each scores; the best are the defaults below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_focusfuse.benchmark_definition import (
    BORDER_PX,
    OPTICS,
    benchmark_stack,
    data_set,
)
from napari_focusfuse.defocus import gaussian_blur, transfer_profile
from napari_focusfuse.metrics import ssim_paper
from napari_focusfuse.slide import UInt8Image

DEPTH_UM = 8.0
"""Depth at which settings are chosen."""
_REACH = 32
"""Pixels by which an image is mirrored outward, against the wrap of the Fourier transform."""
_GREEN_UM = 0.55


def unsharp(image: UInt8Image, sigma: float = 1.0, amount: float = 0.25) -> UInt8Image:
    """Add to a (Y, X, 3) image so much of what a Gaussian takes away."""
    pixels = image.astype(np.float32)
    return _rounded(pixels + amount * (pixels - gaussian_blur(pixels, sigma)))


def wiener(image: UInt8Image, defocus_um: float = 1.35, noise: float = 0.03) -> UInt8Image:
    """Turn one defocus everywhere into focus by Wiener's filter.

    Parameters
    ----------
    defocus_um
        Of the benchmark's optics; in truth it differs from place to place.
    noise
        Power of the noise over that of the picture, alike at all frequencies.
    """
    padded, transfer = _padded(image), _transfer(image.shape[:2], defocus_um)
    # What is sought is the picture in focus, which the optics have blurred as well.
    focused = _transfer(image.shape[:2], 0.0)
    inverse = focused * transfer / (transfer**2 + noise)
    # The mean stays: a filter of less than 1 at frequency 0 would darken the picture.
    inverse = inverse / inverse[0, 0]
    return _unpadded(_filtered(padded, inverse))


def richardson_lucy(image: UInt8Image, defocus_um: float = 2.7, iterations: int = 1) -> UInt8Image:
    """Deconvolve by Richardson (1972) and Lucy (1974), starting from the image itself."""
    observed, transfer = _padded(image).clamp(min=1.0), _transfer(image.shape[:2], defocus_um)
    estimate = observed
    for _ in range(iterations):
        ratio = observed / _filtered(estimate, transfer).clamp(min=1.0)
        estimate = estimate * _filtered(ratio, transfer)
    return _unpadded(estimate)


def _padded(image: UInt8Image) -> Tensor:
    """Return (3, Y, X) float pixels, mirrored at the edges as far as a point spreads."""
    wide = np.pad(image, ((_REACH, _REACH), (_REACH, _REACH), (0, 0)), mode="reflect")
    return torch.from_numpy(wide).permute(2, 0, 1).float()


def _unpadded(pixels: Tensor) -> UInt8Image:
    return _rounded(pixels.permute(1, 2, 0).numpy()[_REACH:-_REACH, _REACH:-_REACH])


@lru_cache(maxsize=8)
def _transfer(shape: tuple[int, int], defocus_um: float) -> Tensor:
    """Return the transfer function of the benchmark's optics in green light for a padded image."""
    height, width = (length + 2 * _REACH for length in shape)
    frequency = np.hypot(
        np.fft.fftfreq(height, OPTICS.mpp)[:, None], np.fft.rfftfreq(width, OPTICS.mpp)[None]
    )
    profile = transfer_profile(OPTICS, _GREEN_UM, defocus_um)
    transfer = np.interp(frequency, *profile, right=0.0)
    return torch.from_numpy(transfer.astype(np.float32))


def _filtered(pixels: Tensor, transfer: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(pixels) * transfer, s=pixels.shape[-2:])


def _rounded(pixels: npt.NDArray[np.float32]) -> UInt8Image:
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


# ---------------------------------------------------------------------- choice of settings

RESTORATIONS: dict[str, Callable[[UInt8Image], UInt8Image]] = {
    "unsharp mask": unsharp,
    "Richardson-Lucy": richardson_lucy,
    "Wiener": wiener,
}


def _tried() -> Iterator[tuple[str, str, Callable[[UInt8Image], UInt8Image]]]:
    """Yield name, settings and filter of everything that is tried."""
    for sigma, amount in product((1.0, 1.5, 3.0), (0.25, 0.5, 1.0)):
        yield (
            "unsharp mask",
            f"sigma {sigma:g} px, amount {amount:g}",
            lambda i, s=sigma, a=amount: unsharp(i, s, a),  # type: ignore[misc]
        )
    for defocus, count in product((1.35, 2.7, 4.0), (1, 2, 5, 10)):
        yield (
            "Richardson-Lucy",
            f"{defocus:g} um, {count} iterations",
            lambda i, d=defocus, n=count: richardson_lucy(i, d, n),  # type: ignore[misc]
        )
    for defocus, noise in product((1.35, 2.7, 4.0), (0.01, 0.03, 0.1, 0.3)):
        yield (
            "Wiener",
            f"{defocus:g} um, noise {noise:g}",
            lambda i, d=defocus, n=noise: wiener(i, d, n),  # type: ignore[misc]
        )


def main() -> int:
    """Print the score of every setting on the validation image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the CRIC images")
    parser.add_argument("--side", type=int, default=640, help="of the middle that is imaged")
    options = parser.parse_args()
    (field,) = data_set().read(options.data, "validation")
    y, x = (max(0, (size - options.side) // 2) for size in field.shape[:2])
    stack = benchmark_stack(field[y : y + options.side, x : x + options.side], DEPTH_UM, 0)
    untouched = ssim_paper(stack.planes[1], stack.truth_one, BORDER_PX)
    sys.stdout.write(f"{'untouched':16} {'':28} SSIM-paper {untouched:.4f}\n")
    for name, settings, restored in _tried():
        value = ssim_paper(restored(stack.planes[1]), stack.truth_one, BORDER_PX)
        sys.stdout.write(f"{name:16} {settings:28} SSIM-paper {value:.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
