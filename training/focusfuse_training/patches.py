"""Batches of patches cut from simulated stacks, the same for the same seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .simulation import TrainingStack


@dataclass(frozen=True)
class Batch:
    """Tensors for one training step."""

    stacked: Tensor
    """(B, 3 * planes, Y, X) float32 in [0, 1]."""
    truth: Tensor
    """(B, 3, Y, X) float32 in [0, 1]."""
    blurred: Tensor
    """(B, Y, X) bool: where layer 0 is out of focus."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in vars(self).values()))


def cut(
    stacks: Sequence[TrainingStack], planes: int, patch: int, size: int, seed: tuple[int, ...]
) -> Batch:
    """Cut ``size`` random patches; which ones depends on ``seed`` alone."""
    rng = np.random.default_rng(seed)
    chosen = [
        _patch(stacks[int(rng.integers(len(stacks)))], planes, patch, rng) for _ in range(size)
    ]
    images = [torch.from_numpy(np.stack(arrays)) for arrays in zip(*chosen, strict=True)]
    return Batch(images[0].float() / 255.0, images[1].float() / 255.0, images[2])


def _patch(
    stack: TrainingStack, planes: int, patch: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one patch, turned and flipped: (3 * planes, Y, X), (3, Y, X) and (Y, X) arrays."""
    y, x = (int(rng.integers(side - patch + 1)) for side in stack.blurred.shape)
    turns, flip = int(rng.integers(4)), bool(rng.random() < 0.5)

    def view(array: np.ndarray) -> np.ndarray:
        window = array[..., y : y + patch, x : x + patch, :]
        window = np.rot90(window, turns, axes=(-3, -2))
        return window[..., ::-1, :] if flip else window

    inputs = stack.planes[1:2] if planes == 1 else stack.planes
    truth = stack.truth_one if planes == 1 else stack.truth_three
    channels = [view(plane).transpose(2, 0, 1) for plane in inputs]
    mask = view(stack.blurred[..., None])[..., 0]
    return (
        np.concatenate(channels),
        np.ascontiguousarray(view(truth).transpose(2, 0, 1)),
        np.ascontiguousarray(mask),
    )
