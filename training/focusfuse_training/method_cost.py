"""What a method costs: time and memory, each measured in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from napari_focusfuse.fusion.catalogue import load_method

from .scoring import apply

_REPEATS = 2
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What fusing one stack in one piece took."""

    seconds_per_mpx: float
    """Processor time on one core for each megapixel of the fused picture; the better of two.

    Not the time on the clock, which other programs on the machine would lengthen.
    """
    megabytes: float
    """Most memory held at once beyond the loaded program and the planes; NaN if unknown."""


def measure(names: Sequence[str], planes: int, side: int) -> Iterator[tuple[str, Cost]]:
    """Yield the cost of each method on ``planes`` planes of ``side`` x ``side`` pixels.

    One after the other, each in a fresh process: memory that one has used hides that of the next.
    """
    # Spawned: a forked process starts with the memory of this one.
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with pool:
        for name in names:
            yield name, pool.submit(_measure, name, planes, side).result()


def _measure(name: str, planes: int, side: int) -> Cost:
    torch.set_num_threads(1)
    method = load_method(name, "cpu")
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 256, (planes, side, side, 3), dtype=np.uint8)
    apply(method, stack[:, :128, :128])  # loads what is loaded lazily
    before, seconds = _forget_peak(), float("inf")
    for _ in range(_REPEATS):
        started = time.process_time()
        apply(method, stack)
        seconds = min(seconds, time.process_time() - started)
    return Cost(seconds / side**2 * 1e6, _peak_megabytes() - before)


def _forget_peak() -> float:
    """Start a new peak and return the megabytes held by now; NaN where the system cannot."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return float("nan")
    return _megabytes("VmRSS")


def _peak_megabytes() -> float:
    """Return the most memory held since the last call of the above; NaN where nobody says."""
    return _megabytes("VmHWM")


def _megabytes(name: str) -> float:
    """Return an entry of Linux's status of this process; NaN elsewhere."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return float("nan")
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024 / 1e6
