"""Everything that fuses or marks blur, scored stack by stack, in as many processes as wished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Literal

import numpy as np
import torch

from napari_focusfuse.benchmark_definition import CAMERA, SEEDS, Z_STEP_UM, simulate
from napari_focusfuse.defocus import Float32Array
from napari_focusfuse.error_bands import band_errors, overshoot, tone_change
from napari_focusfuse.fusion.catalogue import (
    available_methods,
    detector_info,
    load_method,
    model_info,
)
from napari_focusfuse.fusion.classical import ARGMAX, PLAIN
from napari_focusfuse.fusion.method import FusionMethod, MethodInfo, to_unit_range
from napari_focusfuse.fusion.neural import NeuralMethod, load_detector
from napari_focusfuse.metrics import score
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import UInt8Image

from .blur_ranks import sharpest
from .blur_scores import BlurScores, blur_scores
from .calibration import ErrorTally
from .candidates import Candidate
from .controls import gaussian, non_local_means
from .restoration import RESTORATIONS
from .task import Sample, Task, mirrored

NOISE = 255 / CAMERA.electrons**0.5
"""Grey levels of shot noise on white: what the denoising controls are told."""
LAYER0, LAYER0_OF_THREE, ORACLE = "layer 0", "layer 0 (of three)", "oracle selection"

TONE, OWN_TONE = "tone", "tone of its correction"
"""Changes against the input or the selection that networks start from, and against the blend of
planes that a network chose itself."""
SELECTIONS = ("argmax", "dtcwt", "pyramid")
"""Methods of which the best is what a network of several planes has to beat."""

Fuse = Callable[[Sample], UInt8Image]
Infer = Callable[[Sample], tuple[UInt8Image, Float32Array | None]]
Scores = dict[str, float]
"""Metric -> value, as :func:`napari_focusfuse.metrics.score` names them."""
Kind = Literal["input", "control", "restoration", "classical", "oracle", "model"]


@dataclass(frozen=True)
class Entry:
    """One row of the tables: a method and how many planes it is given."""

    name: str
    planes: int
    fuse: Fuse
    kind: Kind = "model"
    infer: Infer | None = None
    """Fuses, and gives the (Y, X) error it expects, of models that expect one."""
    selected: Fuse | None = None
    """What of the result is a blend of several planes, of models that tell."""

    def run(self, sample: Sample) -> tuple[UInt8Image, Float32Array | None]:
        """Return the picture, and the (Y, X) error it expects, if any."""
        return (self.fuse(sample), None) if self.infer is None else self.infer(sample)


def apply(method: FusionMethod, planes: UInt8Image, sampling: Sampling | None = None) -> UInt8Image:
    """Fuse one (Z, Y, X, 3) stack without tiling, mirrored to a size the method takes."""
    return infer(method, planes, sampling)[0]


def infer(
    method: FusionMethod, planes: UInt8Image, sampling: Sampling | None = None
) -> tuple[UInt8Image, Float32Array | None]:
    """Fuse one (Z, Y, X, 3) stack as :func:`apply`, and return the error expected, if it is.

    Returns
    -------
    tuple
        (Y, X, 3) picture, and (Y, X) mean absolute error to expect, in units of white, or None.
    """
    told = method if sampling is None else method.at(sampling)
    stack, shown = _prepared(method, planes)
    if not (isinstance(told, NeuralMethod) and told.expects_error):
        return to_uint8(told(stack)[0])[shown], None
    found = to_unit_range(told.infer(stack), method.info.title)[0][shown]
    return to_uint8(found[..., :3]), found[..., 3]


def selected(method: NeuralMethod, planes: UInt8Image, sampling: Sampling) -> UInt8Image:
    """Return the (Y, X, 3) blend of (Z, Y, X, 3) planes that a network corrects."""
    stack, shown = _prepared(method, planes)
    return to_uint8(method.at(sampling).selected(stack)[0][shown])


def _prepared(method: FusionMethod, planes: UInt8Image) -> tuple[Float32Array, tuple[slice, slice]]:
    """Return planes as a method takes them, and which part of its result they are."""
    stack = mirrored(planes, method.info.multiple_of)[None].astype(np.float32) / 255.0
    return stack, (slice(planes.shape[1]), slice(planes.shape[2]))


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


def entries(candidates: Sequence[Candidate], methods: Sequence[str] = ()) -> list[Entry]:
    """Return the untouched plane, classical methods and controls, the oracle, and the models.

    Parameters
    ----------
    methods
        Of the classical methods and the controls that only denoise or average, only these; empty:
        all.
    """
    rows = [
        Entry(LAYER0, 1, lambda s: s.layer0, "input"),
        *(_restoration(name, restored) for name, restored in RESTORATIONS.items()),
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
        *(entry_of(info.name, load_method(info, "cpu"), "classical") for info in classical()),
        Entry(ORACLE, 3, oracle, "oracle"),
    ]
    argmax = next(row for row in rows if row.name == ARGMAX.name)
    if methods:
        optional = ("classical", "control")
        rows = [row for row in rows if row.kind not in optional or row.name in methods]
    for candidate in candidates:
        if not candidate.marks_blur:
            method = load_method(model_info(candidate.file, candidate.card), "cpu")
            rows.append(entry_of(candidate.label, method, "model"))
    return rows


def classical() -> list[MethodInfo]:
    """Return every registered method that was not trained, or that only selects; plain ones too."""
    listed = [i for i in available_methods() if i.weights is None or i.kind == "selection"]
    return [*listed, *PLAIN]


def entry_of(name: str, method: FusionMethod, kind: Kind) -> Entry:
    """Return the row of a fusion method; one that takes any number of planes is given three."""
    offsets = method.info.plane_offsets
    count = 3 if offsets is None else len(offsets)
    entry = Entry(name, count, lambda s: apply(method, s.central(count), s.sampling(count)), kind)
    if not (isinstance(method, NeuralMethod) and method.expects_error):
        return entry
    blend: Fuse = lambda s: selected(method, s.central(count), s.sampling(count))  # noqa: E731
    return replace(
        entry,
        infer=lambda s: infer(method, s.central(count), s.sampling(count)),
        selected=blend if count > 1 else None,
    )


def _restoration(name: str, restored: Callable[[UInt8Image], UInt8Image]) -> Entry:
    return Entry(name, 1, lambda s: restored(s.layer0), "restoration")


@dataclass(frozen=True)
class Result:
    """The scores of one stack; of its pictures only the few that are shown."""

    whole: dict[str, Scores] = field(default_factory=dict)
    """Row -> scores of the whole stack."""
    squares: tuple[dict[str, Scores], ...] = ()
    """The same of each square."""
    blur: BlurScores = field(default_factory=BlurScores)
    expectations: dict[str, ErrorTally] = field(default_factory=dict)
    """Model -> how its real errors compare with those it expected."""
    shown: tuple[dict[str, UInt8Image], ...] = ()
    """Row, ``"truth 1"`` or ``"truth 3"`` -> picture, of each square that is shown."""


class Scorer:
    """Holds the loaded models in each process."""

    def __init__(self, candidates: Sequence[Candidate], methods: Sequence[str] = ()) -> None:
        fusing = any(not candidate.marks_blur for candidate in candidates)
        self.rows = entries(candidates, methods) if fusing else []
        self.detectors = {
            c.label: load_detector(detector_info(c.file, c.card))
            for c in candidates
            if c.marks_blur
        }

    @property
    def expects_error(self) -> bool:
        """Whether some model says how far it expects to be off."""
        return any(row.infer is not None for row in self.rows)

    def __call__(self, task: Task, threshold: float | None) -> Result:
        """Render and score one stack.

        Parameters
        ----------
        threshold
            Sharpness below which the control calls a pixel blurred; None: no control.
        """
        sample = task.render()
        if task.calibrates:
            return Result(expectations=self._expectations(sample, task.border))
        whole: dict[str, Scores] = {}
        squares: tuple[dict[str, Scores], ...] = tuple({} for _ in task.squares)
        shown: tuple[dict[str, UInt8Image], ...] = tuple(
            {f"truth {n}": task.squares[index].cut(sample.truth(n)).copy() for n in (1, 3)}
            for index in task.shown
        )
        expectations, befores = {}, {1: sample.layer0}
        for row in (row for row in self.rows if _fits(row, sample)):
            (fused, expected), truth = row.run(sample), sample.truth(row.planes)
            if row.planes not in befores:
                befores[row.planes] = sharpest(sample.central(row.planes))
            before = {TONE: befores[row.planes]}
            if row.selected is not None:
                before[OWN_TONE] = row.selected(sample)
            whole[row.name] = judged(fused, truth, before, task.border)
            if expected is not None:
                expectations[row.name] = ErrorTally.of(fused, expected, truth, task.border)
            for square, found in zip(task.squares, squares, strict=True):
                found[row.name] = score(square.cut(fused), square.cut(truth))
            for index, pictures in zip(task.shown, shown, strict=True):
                pictures[row.name] = task.squares[index].cut(fused).copy()
        blur = blur_scores(self.detectors, sample, threshold)
        return Result(whole, squares, blur, expectations, shown)

    def _expectations(self, sample: Sample, border: int) -> dict[str, ErrorTally]:
        found = {}
        for row in self.rows:
            if row.infer is not None:
                fused, expected = row.infer(sample)
                assert expected is not None
                found[row.name] = ErrorTally.of(fused, expected, sample.truth(row.planes), border)
        return found

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


def judged(
    fused: UInt8Image, truth: UInt8Image, befores: Mapping[str, UInt8Image], border: int
) -> dict[str, float]:
    """Return all that is said of a whole picture: every metric, the bands of its error, its tone.

    Parameters
    ----------
    befores
        What it was made from, by name, such as :data:`TONE`.
    """
    bands = {**band_errors(fused, truth, border), "overshoot": overshoot(fused, truth, border)}
    found = score(fused, truth, border) | bands
    for name, before in befores.items():
        largest, rms = tone_change(fused, before, border)
        found |= {f"{name}, largest": largest, f"{name}, RMS": rms}
    return found


def _fits(row: Entry, sample: Sample) -> bool:
    """Tell whether a stack has the planes, and the heights, that a row needs."""
    return row.planes <= len(sample.planes) and (
        row.kind != "oracle" or sample.height_um is not None
    )


# ---------------------------------------------------------------------- processes

_scorers: list[Scorer] = []
Score = Callable[[Sequence[Task], float | None], Iterator[Result]]


def _start_worker(candidates: Sequence[Candidate], methods: Sequence[str]) -> None:
    torch.set_num_threads(1)  # a process a core; more threads would only wait for each other
    _scorers[:] = [Scorer(candidates, methods)]


def _score(task: Task, threshold: float | None) -> Result:
    return _scorers[0](task, threshold)


@contextmanager
def scoring(
    candidates: Sequence[Candidate],
    jobs: int,
    scorer: Scorer | None = None,
    methods: Sequence[str] = (),
) -> Iterator[Score]:
    """Give a function that scores tasks in ``jobs`` processes; with one job, in this one.

    Parameters
    ----------
    scorer
        What this process would use; None: made if it is needed.
    methods
        As :func:`entries` takes them.
    """
    if jobs == 1:
        here = scorer or Scorer(candidates, methods)
        yield lambda tasks, threshold: (here(task, threshold) for task in tasks)
        return
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        jobs, mp_context=spawn, initializer=_start_worker, initargs=(candidates, methods)
    ) as pool:
        yield lambda tasks, threshold: pool.map(_score, tasks, [threshold] * len(tasks))
