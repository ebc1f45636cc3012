"""Batches of patches: the same for the same seed and place in the sequence, made ahead of need."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_focusfuse.defocus import Float32Array
from napari_focusfuse.sampling import Sampling

from .corpus import Group
from .stack import TrainingStack

_AHEAD = 4
"""Batches made ahead: enough to ride out a slow read."""


@dataclass(frozen=True)
class Batch:
    """Tensors for one training step."""

    stacked: Tensor
    """(B, 3 * planes, Y, X) float32 in [0, 1]."""
    truth: Tensor
    """(B, 3, Y, X) float32 in [0, 1]."""
    blurred: Tensor
    """(B, Y, X) uint8: 1 where layer 0 is out of focus, 0 where not, 255 where unknown."""
    blur_ratio: Tensor
    """(B, Y, X) float32: how far layer 0 is blurred; NaN where unknown."""
    sampling: Tensor
    """(B, planes) float32: :meth:`napari_focusfuse.sampling.Sampling.octaves` of each stack."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in vars(self).values()))


@dataclass(frozen=True)
class Order:
    """Which patches there are, and how they are cut."""

    groups: tuple[Group, ...]
    planes: int
    patch: int
    seed: int
    unknown: float = 0.0
    """Share of patches whose distances and pixel size are withheld, as slides may withhold them."""
    recolour: float = 0.0
    """Share of patches whose colour channels change places: a stain nobody uses is a stain."""

    def batch(self, first: int, size: int) -> Batch:
        """Cut the patches ``first`` to ``first + size`` of the sequence.

        What a patch is depends on the seed and its number alone: two processes that share a batch
        cut the patches one process would have cut.
        """
        return batch_of([self._patch(number) for number in range(first, first + size)], self.planes)

    def _patch(self, number: int) -> TrainingStack:
        rng = np.random.default_rng((self.seed, number))
        weights = np.array([group.weight for group in self.groups])
        group = self.groups[int(rng.choice(len(self.groups), p=weights / weights.sum()))]
        file = group.files[int(rng.integers(len(group.files)))]
        y, x = (int(rng.integers(side - self.patch + 1)) for side in file.shape)
        stack = file.read(y, x, self.patch)
        stack = turned(stack, int(rng.integers(4)), flip=bool(rng.random() < 0.5))
        if rng.random() < self.unknown:
            stack = replace(stack, sampling=None)
        return recoloured(stack, rng.permutation(3)) if rng.random() < self.recolour else stack


def turned(stack: TrainingStack, quarters: int, *, flip: bool) -> TrainingStack:
    """Return a stack turned by quarters of a circle, and mirrored."""

    def turn(array: np.ndarray, rows: int) -> np.ndarray:
        """Turn axes ``rows`` and ``rows + 1``."""
        array = np.rot90(array, quarters, axes=(rows, rows + 1))
        return np.ascontiguousarray(np.flip(array, axis=rows + 1) if flip else array)

    return TrainingStack(
        planes=turn(stack.planes, 1),
        truth_one=turn(stack.truth_one, 0),
        truth_three=turn(stack.truth_three, 0),
        blurred=turn(stack.blurred, 0),
        blur_ratio=None if stack.blur_ratio is None else turn(stack.blur_ratio, 0),
        sampling=stack.sampling,
    )


def recoloured(stack: TrainingStack, order: npt.NDArray[np.int64]) -> TrainingStack:
    """Return a stack whose colour channels come in another order."""
    return replace(
        stack,
        planes=stack.planes[..., order],
        truth_one=stack.truth_one[..., order],
        truth_three=stack.truth_three[..., order],
    )


def batch_of(stacks: Sequence[TrainingStack], planes: int) -> Batch:
    """Return the tensors of stacks of equal size, for a network of ``planes`` focal planes."""
    stacked, truth, sampling = [], [], []
    for stack in stacks:
        middle, reach = len(stack.planes) // 2, planes // 2
        inputs = stack.planes[middle - reach : middle + reach + 1]
        stacked.append(inputs.transpose(0, 3, 1, 2).reshape(-1, *inputs.shape[1:3]))
        best = stack.truth_one if planes == 1 else stack.truth_three
        truth.append(best.transpose(2, 0, 1))
        sampling.append(_sampling(stack, planes).octaves())
    return Batch(
        torch.from_numpy(np.stack(stacked)).float() / 255.0,
        torch.from_numpy(np.stack(truth)).float() / 255.0,
        torch.from_numpy(np.stack([stack.blurred for stack in stacks])),
        torch.from_numpy(np.stack([_ratio(stack) for stack in stacks])),
        torch.tensor(sampling, dtype=torch.float32),
    )


def _sampling(stack: TrainingStack, planes: int) -> Sampling:
    """Return how the middle ``planes`` of a stack lie."""
    if stack.sampling is None:
        return Sampling((None,) * (planes - 1))
    middle, reach = len(stack.planes) // 2, planes // 2
    gaps = stack.sampling[middle - reach : middle + reach].tolist()
    return Sampling(tuple(gaps), float(stack.sampling[-1]))


def _ratio(stack: TrainingStack) -> Float32Array:
    if stack.blur_ratio is None:
        return np.full(stack.blurred.shape, np.nan, dtype=np.float32)
    return stack.blur_ratio.astype(np.float32)


class Feeder:
    """Cuts batches in a thread of its own while the network computes.

    Parameters
    ----------
    order
        What to cut.
    first
        Number of the first patch.
    size
        Patches in a batch.
    stride
        Patches from one batch to the next: ``size`` times the number of processes.
    """

    def __init__(self, order: Order, first: int, size: int, stride: int) -> None:
        self._order, self._next, self._size, self._stride = order, first, size, stride
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._waiting: list[Future[Batch]] = []
        self.seconds_waited = 0.0
        """Time the network stood still for want of data."""

    def __enter__(self) -> Feeder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def next(self) -> Batch:
        """Return the next batch."""
        while len(self._waiting) < _AHEAD:
            self._waiting.append(self._pool.submit(self._order.batch, self._next, self._size))
            self._next += self._stride
        started = time.perf_counter()
        batch = self._waiting.pop(0).result()
        self.seconds_waited += time.perf_counter() - started
        return batch

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
