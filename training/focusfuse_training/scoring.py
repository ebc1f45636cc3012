"""Everything that fuses or marks blur, scored stack by stack, in as many processes as wished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Literal

import numpy as np
import torch

from napari_focusfuse.benchmark_definition import CAMERA, SEEDS, Z_STEP_UM, simulate
from napari_focusfuse.fusion.catalogue import (
    available_methods,
    detector_info,
    load_method,
    model_info,
)
from napari_focusfuse.fusion.classical import ARGMAX, PLAIN
from napari_focusfuse.fusion.method import FusionMethod, MethodInfo
from napari_focusfuse.fusion.neural import BlurDetector, load_detector
from napari_focusfuse.metrics import score
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import UInt8Image

from .candidates import Candidate
from .controls import gaussian, non_local_means, sharpness
from .masks import Confusion, foreground
from .material import Sample, Task

NOISE = 255 / CAMERA.electrons**0.5
"""Grey levels of shot noise on white: what the denoising controls are told."""
LAYER0, LAYER0_OF_THREE, ORACLE = "layer 0", "layer 0 (of three)", "oracle selection"
LAPLACIAN, ALL_BLURRED = "variance of Laplacian", "all blurred"

Fuse = Callable[[Sample], UInt8Image]
Scores = dict[str, float]
"""Metric -> value, as :func:`napari_focusfuse.metrics.score` names them."""
Kind = Literal["input", "control", "classical", "oracle", "model"]


@dataclass(frozen=True)
class Entry:
    """One row of the tables: a method and how many planes it is given."""

    name: str
    planes: int
    fuse: Fuse
    kind: Kind = "model"


def apply(method: FusionMethod, planes: UInt8Image, sampling: Sampling | None = None) -> UInt8Image:
    """Fuse one (Z, Y, X, 3) stack without tiling, mirrored to a size the method takes."""
    if sampling is not None:
        method = method.at(sampling)
    height, width = planes.shape[1:3]
    padded = mirrored(planes, method.info.multiple_of)
    return to_uint8(method(padded[None].astype(np.float32) / 255.0)[0])[:height, :width]


def mirrored(planes: UInt8Image, multiple_of: int) -> UInt8Image:
    """Return (Z, Y, X, 3) planes continued below and to the right to a multiple of a size."""
    short = [-side % multiple_of for side in planes.shape[1:3]]
    return np.pad(planes, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)), mode="reflect")


def oracle(sample: Sample) -> UInt8Image:
    """Return the (Y, X, 3) selection that knows the heights: no selection can be nearer focus."""
    if sample.height_um is None:
        raise ValueError("only a simulated stack has an oracle")
    outermost = len(sample.planes) // 2
    nearest = np.rint(np.clip(sample.height_um / Z_STEP_UM, -outermost, outermost))
    chosen = (nearest.astype(np.int64) + outermost)[None, ..., None]
    picked: UInt8Image = np.take_along_axis(sample.planes, chosen, axis=0)[0]
    return picked


def _mean(sample: Sample) -> UInt8Image:
    return np.rint(sample.central(3).mean(axis=0)).astype(np.uint8)


def entries(candidates: Sequence[Candidate]) -> list[Entry]:
    """Return the untouched plane, classical methods and controls, the oracle, and the models."""
    rows = [
        Entry(LAYER0, 1, lambda s: s.layer0, "input"),
        Entry("layer 0, Gaussian", 1, lambda s: gaussian(s.layer0), "control"),
        Entry("layer 0, non-local means", 1, lambda s: non_local_means(s.layer0, NOISE), "control"),
        Entry(LAYER0_OF_THREE, 3, lambda s: s.layer0, "input"),
        Entry("mean of planes", 3, _mean, "control"),
        Entry("argmax, Gaussian", 3, lambda s: gaussian(argmax.fuse(s)), "control"),
        Entry(
            "argmax, non-local means",
            3,
            lambda s: non_local_means(argmax.fuse(s), NOISE),
            "control",
        ),
        *(_entry(info.name, load_method(info, "cpu"), "classical") for info in classical()),
        Entry(ORACLE, 3, oracle, "oracle"),
    ]
    argmax = next(row for row in rows if row.name == ARGMAX.name)
    for candidate in candidates:
        if not candidate.marks_blur:
            method = load_method(model_info(candidate.file, candidate.card), "cpu")
            rows.append(_entry(candidate.label, method, "model"))
    return rows


def classical() -> list[MethodInfo]:
    """Return every registered method that was not trained, or that only selects; plain ones too."""
    listed = [i for i in available_methods() if i.weights is None or i.kind == "selection"]
    return [*listed, *PLAIN]


def _entry(name: str, method: FusionMethod, kind: Kind) -> Entry:
    offsets = method.info.plane_offsets
    count = 3 if offsets is None else len(offsets)
    return Entry(name, count, lambda s: apply(method, s.central(count), s.sampling(count)), kind)


@dataclass(frozen=True)
class Result:
    """The scores of one stack; of its pictures only the few that are shown."""

    whole: dict[str, Scores] = field(default_factory=dict)
    """Row -> scores of the whole stack."""
    squares: tuple[dict[str, Scores], ...] = ()
    """The same of each square."""
    masks: dict[str, Confusion] = field(default_factory=dict)
    """Counts of each blur mask, and of the same on cells only (``"..., cells"``)."""
    shown: tuple[dict[str, UInt8Image], ...] = ()
    """Row, ``"truth 1"`` or ``"truth 3"`` -> picture, of each square that is shown."""


class Scorer:
    """Holds the loaded models in each process."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        fusing = any(not candidate.marks_blur for candidate in candidates)
        self.rows = entries(candidates) if fusing else []
        self.detectors = {
            c.label: load_detector(detector_info(c.file, c.card))
            for c in candidates
            if c.marks_blur
        }

    def __call__(self, task: Task, threshold: float | None) -> Result:
        """Render and score one stack.

        Parameters
        ----------
        threshold
            Sharpness below which the control calls a pixel blurred; None: no control.
        """
        sample = task.render()
        whole: dict[str, Scores] = {}
        squares: tuple[dict[str, Scores], ...] = tuple({} for _ in task.squares)
        shown: tuple[dict[str, UInt8Image], ...] = tuple(
            {f"truth {n}": task.squares[index].cut(sample.truth(n)).copy() for n in (1, 3)}
            for index in task.shown
        )
        for row in self.rows:
            if not _fits(row, sample):
                continue
            fused, truth = row.fuse(sample), sample.truth(row.planes)
            whole[row.name] = score(fused, truth, task.border)
            for square, found in zip(task.squares, squares, strict=True):
                found[row.name] = score(square.cut(fused), square.cut(truth))
            for index, pictures in zip(task.shown, shown, strict=True):
                pictures[row.name] = task.squares[index].cut(fused).copy()
        return Result(whole, squares, self._masks(sample, threshold), shown)

    def _masks(self, sample: Sample, threshold: float | None) -> dict[str, Confusion]:
        if not self.detectors:
            return {}
        masks = {name: _mask(find, sample.layer0) for name, find in self.detectors.items()}
        if threshold is not None:
            masks[LAPLACIAN] = sharpness(sample.layer0) < threshold
        masks[ALL_BLURRED] = np.ones_like(sample.blurred)
        truth, known = sample.blurred, sample.known
        cells = foreground(sample.truth_one) & known
        found = {name: Confusion.of(mask, truth, known) for name, mask in masks.items()}
        on_cells = {f"{n}, cells": Confusion.of(m, truth, cells) for n, m in masks.items()}
        return found | on_cells

    def change_on_sharp(self, images: Sequence[UInt8Image]) -> dict[str, float]:
        """Return each model's mean absolute change (grey levels) of a flat specimen in focus."""
        models = [row for row in self.rows if row.kind == "model"]
        changes: dict[str, list[float]] = {row.name: [] for row in models}
        for image in images if models else ():
            flat = np.zeros(image.shape[:2], dtype=np.float32)
            stack = simulate(image, flat, np.random.default_rng(SEEDS[0]))
            everywhere = np.ones(image.shape[:2], dtype=np.bool_)
            sample = Sample(stack.planes, stack.truth_one, stack.truth_all, ~everywhere, everywhere)
            for row in models:
                if _fits(row, sample):
                    result = row.fuse(sample).astype(np.float32)
                    changes[row.name].append(float(np.abs(result - sample.layer0).mean()))
        return {name: float(np.mean(values)) for name, values in changes.items() if values}


def _mask(detector: BlurDetector, layer: UInt8Image) -> np.ndarray:
    height, width = layer.shape[:2]
    padded = mirrored(layer[None], detector.info.multiple_of)
    blurred = detector(padded[None].astype(np.float32) / 255.0)[0, :height, :width, 0]
    mask: np.ndarray = blurred >= 0.5
    return mask


def _fits(row: Entry, sample: Sample) -> bool:
    """Tell whether a stack has the planes, and the heights, that a row needs."""
    return row.planes <= len(sample.planes) and (
        row.kind != "oracle" or sample.height_um is not None
    )


# ---------------------------------------------------------------------- processes

_scorers: list[Scorer] = []
Score = Callable[[Sequence[Task], float | None], Iterator[Result]]


def _start_worker(candidates: Sequence[Candidate]) -> None:
    torch.set_num_threads(1)  # a process a core; more threads would only wait for each other
    _scorers[:] = [Scorer(candidates)]


def _score(task: Task, threshold: float | None) -> Result:
    return _scorers[0](task, threshold)


@contextmanager
def scoring(
    candidates: Sequence[Candidate], jobs: int, scorer: Scorer | None = None
) -> Iterator[Score]:
    """Give a function that scores tasks in ``jobs`` processes; with one job, in this one.

    Parameters
    ----------
    scorer
        What this process would use; None: made if it is needed.
    """
    if jobs == 1:
        here = scorer or Scorer(candidates)
        yield lambda tasks, threshold: (here(task, threshold) for task in tasks)
        return
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        jobs, mp_context=spawn, initializer=_start_worker, initargs=(candidates,)
    ) as pool:
        yield lambda tasks, threshold: pool.map(_score, tasks, [threshold] * len(tasks))
