"""Every method on one stack: what it makes of it, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch

from napari_focusfuse.benchmark_definition import BORDER_PX, SimulatedStack
from napari_focusfuse.fusion.catalogue import available_methods, load_method
from napari_focusfuse.fusion.depth import DepthMapper
from napari_focusfuse.fusion.maps import CONFIDENT
from napari_focusfuse.fusion.method import MethodInfo
from napari_focusfuse.fusion_quality import quality
from napari_focusfuse.metrics import score
from napari_focusfuse.slide import UInt8Image

from .benchmark_sets import BenchmarkSet
from .masks import foreground
from .scoring import LAYER0, ORACLE, Scores, apply, classical

MEAN = "mean of planes"
DEPTH_MEASURES = ("median error", "90 % below", "known", "known of those in reach")

Fuse = Callable[[SimulatedStack], UInt8Image]


@dataclass(frozen=True)
class StackTask:
    """One stack to render and to fuse by everything."""

    kind: BenchmarkSet
    depth_um: float
    seed: int
    layers: int
    side: int
    field: UInt8Image | None = None
    """(Y, X, 3) sharp image to lay on the height map; None: drawn cells."""

    @property
    def condition(self) -> str:
        """What stacks are averaged: the set and the depth."""
        return f"{self.kind.name} {self.depth_um:g} um"

    def render(self) -> SimulatedStack:
        """Return the stack."""
        shape = (self.side, self.side)
        return self.kind.stack(self.depth_um, self.seed, self.layers, shape, self.field)


@dataclass(frozen=True)
class StackResult:
    """All scores of one stack."""

    condition: str
    layers: int
    rows: Mapping[tuple[int, str], Scores]
    """(planes it was given, method) -> metric -> value."""
    depth: Mapping[str, float]
    """How good the depth map is, by :data:`DEPTH_MEASURES`; lengths in um."""


def methods(layers: int, wanted: Sequence[str] = ()) -> list[MethodInfo]:
    """Return the methods that take so many planes, the plain ones of the literature included.

    Parameters
    ----------
    wanted
        Only these; empty: all.
    """
    listed = list(available_methods())
    known = [*listed, *(info for info in classical() if info not in listed)]
    return [
        info
        for info in known
        if (not wanted or info.name in wanted)
        and (layers > 1 if info.plane_offsets is None else len(info.plane_offsets) == layers)
    ]


def fuse_all(
    planes: UInt8Image, wanted: Sequence[str] = ()
) -> Iterator[tuple[int, str, UInt8Image]]:
    """Yield planes given, name and picture of every row but the oracle.

    Parameters
    ----------
    planes
        (Z, Y, X, 3) uint8, layer 0 in the middle.  Of three planes the methods of one have a turn.
    """
    layer0 = planes[len(planes) // 2][None]
    for given in (layer0, planes) if len(planes) == 3 else (planes,):
        yield len(given), LAYER0, layer0[0]
        if len(given) > 1:
            yield len(given), MEAN, np.rint(given.mean(axis=0)).astype(np.uint8)
        for info in methods(len(given), wanted):
            yield len(given), info.name, apply(load_method(info, "cpu"), given)


def contest(task: StackTask, wanted: Sequence[str] = ()) -> StackResult:
    """Render a stack and score every method, the oracle and the depth map on it."""
    stack = task.render()
    rows = {
        (given, name): score(image, stack.truth(given), BORDER_PX)
        for given, name, image in fuse_all(stack.planes, wanted)
    }
    rows[task.layers, ORACLE] = score(stack.oracle, stack.truth_all, BORDER_PX)
    return StackResult(task.condition, task.layers, rows, judge_depth(stack))


def judge_depth(stack: SimulatedStack) -> dict[str, float]:
    """Return how far depths are off on cells where they are confident, and on how many that is."""
    mapper = DepthMapper(stack.focus_um)
    values = mapper(np.divide(stack.planes[None], 255, dtype=np.float32))[0]
    depth, confidence = values[..., 0], values[..., 1]
    about = mapper.maps[0]
    cells = foreground(stack.truth_all)
    known = cells & (confidence >= CONFIDENT)
    in_reach = cells & (about.low <= stack.height_um) & (stack.height_um <= about.high)
    off = np.abs(about.low + depth * (about.high - about.low) - stack.height_um)[known]
    measures = (
        float(np.median(off)) if off.size else np.nan,
        float(np.quantile(off, 0.9)) if off.size else np.nan,
        known.sum() / max(1, cells.sum()),
        (known & in_reach).sum() / max(1, in_reach.sum()),
    )
    return dict(zip(DEPTH_MEASURES, map(float, measures), strict=True))


def judge_real(planes: UInt8Image, wanted: Sequence[str] = ()) -> dict[tuple[int, str], Scores]:
    """Return the quality without a truth of every row that fuses several planes."""
    return {
        (given, name): quality(image, planes, BORDER_PX)
        for given, name, image in fuse_all(planes, wanted)
        if given == len(planes)
    }


def contest_all(
    tasks: Sequence[StackTask], jobs: int, wanted: Sequence[str] = ()
) -> Iterator[StackResult]:
    """Yield the result of every task in order, from ``jobs`` processes; one: from this one."""
    if jobs == 1:
        yield from (contest(task, wanted) for task in tasks)
        return
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        jobs, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(contest, tasks, [wanted] * len(tasks))
