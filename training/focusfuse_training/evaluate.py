"""Score models on the benchmark: ``python -m focusfuse_training.evaluate MODEL... --data --out``.

Writes ``scores.json``, ``scores.md`` and, for each model, a copy to ship: float16 weights with the
scores in the card.  The scores are those of the float16 weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from napari_focusfuse.benchmark_definition import (
    BORDER_PX,
    CAMERA,
    DEPTHS_UM,
    OPTICS,
    SEEDS,
    SimulatedStack,
    benchmark_stack,
    data_set,
    drawn_stack,
    simulate,
)
from napari_focusfuse.defocus import blur_labels
from napari_focusfuse.fusion.catalogue import detector_info, load_method, model_info
from napari_focusfuse.fusion.method import FusionMethod
from napari_focusfuse.fusion.neural import NeuralMethod, load_detector, load_neural
from napari_focusfuse.metrics import score
from napari_focusfuse.model_card import ModelCard, read_card
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.slide import FocusFuseError, UInt8Image
from napari_focusfuse.weights import load_model, save_model

from .controls import fit_threshold, gaussian, non_local_means, sharpness
from .masks import Confusion, foreground

log = logging.getLogger(__name__)

NOISE = 255 / CAMERA.electrons**0.5
"""Grey levels of shot noise on white: what the denoising controls are told."""
_BLUR_MODELS = ("blur", "small-blur")
Fuse = Callable[[SimulatedStack], UInt8Image]
Table = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Entry:
    """One row of the table: a method and how many planes it is given."""

    name: str
    planes: int
    fuse: Fuse


def apply(method: FusionMethod, planes: UInt8Image) -> UInt8Image:
    """Fuse one (Z, Y, X, 3) stack without tiling, mirrored to a size the method takes."""
    height, width = planes.shape[1:3]
    short = [-side % method.info.multiple_of for side in (height, width)]
    padded = np.pad(planes, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)), mode="reflect")
    return to_uint8(method(padded[None].astype(np.float32) / 255.0)[0])[:height, :width]


def entries(methods: Sequence[NeuralMethod]) -> list[Entry]:
    """Return the untouched plane, selections, controls that only denoise, and the models."""
    argmax, pyramid = load_method("argmax"), load_method("pyramid")
    rows = [
        Entry("layer 0", 1, lambda s: s.planes[1]),
        Entry("layer 0, Gaussian", 1, lambda s: gaussian(s.planes[1])),
        Entry("layer 0, non-local means", 1, lambda s: non_local_means(s.planes[1], NOISE)),
        Entry("argmax", 3, lambda s: apply(argmax, s.planes)),
        Entry("argmax, Gaussian", 3, lambda s: gaussian(apply(argmax, s.planes))),
        Entry(
            "argmax, non-local means", 3, lambda s: non_local_means(apply(argmax, s.planes), NOISE)
        ),
        Entry("pyramid", 3, lambda s: apply(pyramid, s.planes)),
    ]
    return rows + [_model_entry(method) for method in methods]


def _model_entry(method: NeuralMethod) -> Entry:
    offsets = method.info.plane_offsets or (0,)
    if len(offsets) == 1:
        return Entry(method.info.name, 1, lambda s: apply(method, s.planes[1:2]))
    return Entry(method.info.name, 3, lambda s: apply(method, s.planes))


def error_ratios(table: Table, methods: Sequence[NeuralMethod]) -> dict[str, float]:
    """Return (1 - SSIM-paper) of each model over the best it competes with.

    A model of three planes competes with the better of argmax and pyramid, a model of one plane
    with its own input.
    """
    error = {name: 1 - scores["SSIM-paper"] for name, scores in table.items()}
    ratios = {}
    for method in methods:
        alone = len(method.info.plane_offsets or (0,)) == 1
        rival = error["layer 0"] if alone else min(error["argmax"], error["pyramid"])
        ratios[method.info.name] = error[method.info.name] / rival
    return ratios


def change_on_sharp(
    methods: Sequence[NeuralMethod], images: Sequence[UInt8Image]
) -> dict[str, float]:
    """Return each model's mean absolute change (grey levels) of a flat specimen in focus."""
    changes = defaultdict(list)
    for image in images:
        flat = np.zeros(image.shape[:2], dtype=np.float32)
        stack = simulate(image, flat, np.random.default_rng(SEEDS[0]))
        for method in methods:
            result = _model_entry(method).fuse(stack).astype(np.float32)
            changes[method.info.name].append(float(np.abs(result - stack.planes[1]).mean()))
    return {name: float(np.mean(values)) for name, values in changes.items()}


@dataclass(frozen=True)
class Task:
    """One stack to render and score."""

    image: UInt8Image | None
    """The sharp field to image; None: a drawn smear."""
    depth_um: float
    seed: int
    threshold: float
    """Sharpness below which the control calls a pixel blurred."""

    def render(self) -> SimulatedStack:
        """Return the stack."""
        if self.image is None:
            return drawn_stack(self.depth_um, self.seed)
        return benchmark_stack(self.image, self.depth_um, self.seed)


@dataclass(frozen=True)
class Result:
    """The scores of one stack."""

    scores: Table
    masks: dict[str, Confusion]
    """Counts of each blur mask, and of the same on cells only (``"..., cells"``)."""


class Scorer:
    """Holds the loaded models in each worker process."""

    def __init__(self, files: Sequence[Path]) -> None:
        cards = [(path, read_card(path)) for path in files]
        generators = [file for file in cards if file[1].architecture not in _BLUR_MODELS]
        detectors = [file for file in cards if file[1].architecture in _BLUR_MODELS]
        self.methods = [load_neural(model_info(*file)) for file in generators]
        self.rows = entries(self.methods) if self.methods else []
        self.detectors = [load_detector(detector_info(*file)) for file in detectors]

    def __call__(self, task: Task) -> Result:
        """Render and score one stack."""
        stack = task.render()
        scores = {
            row.name: score(row.fuse(stack), stack.truth(row.planes), BORDER_PX)
            for row in self.rows
        }
        return Result(scores, self._masks(stack, task.threshold) if self.detectors else {})

    def _masks(self, stack: SimulatedStack, threshold: float) -> dict[str, Confusion]:
        layer = stack.planes[1]
        truth = blur_labels(OPTICS, stack.height_um, 0.0)
        cells = foreground(stack.truth_one)
        masks = {
            detector.info.name: detector(layer[None].astype(np.float32) / 255.0)[0] >= 0.5
            for detector in self.detectors
        }
        masks["variance of Laplacian"] = sharpness(layer) < threshold
        masks["all blurred"] = np.ones_like(truth)
        found = {name: Confusion.of(mask, truth) for name, mask in masks.items()}
        on_cells = {f"{n}, cells": Confusion.of(m, truth, cells) for n, m in masks.items()}
        return found | on_cells


def threshold_of(images: Sequence[UInt8Image], depth_um: float) -> float:
    """Fit the control's threshold on training images at the depth range it will be judged at."""
    stacks = [benchmark_stack(image, depth_um, SEEDS[0]) for image in images]
    labels = [blur_labels(OPTICS, stack.height_um, 0.0) for stack in stacks]
    return fit_threshold([stack.planes[1] for stack in stacks], labels)


def summary(results: Sequence[Result], methods: Sequence[NeuralMethod]) -> dict[str, object]:
    """Return the mean scores, error ratios and mask scores of one depth range."""
    table = {
        name: {key: float(np.mean([r.scores[name][key] for r in results])) for key in row}
        for name, row in results[0].scores.items()
    }
    counts = {name: sum((r.masks[name] for r in results), Confusion()) for name in results[0].masks}
    keys = ("iou", "iou_sharp", "precision", "recall")
    masks = {name: {key: getattr(count, key) for key in keys} for name, count in counts.items()}
    return {
        "table": table,
        "error_ratio": error_ratios(table, methods),
        "masks": masks,
    }


_scorers: list[Scorer] = []


def _start_worker(files: Sequence[Path]) -> None:
    torch.set_num_threads(1)  # a process a core; more threads would only wait for each other
    _scorers[:] = [Scorer(files)]


def _score(task: Task) -> Result:
    return _scorers[0](task)


def evaluate(
    models: Sequence[Path],
    images: Path,
    out: Path,
    depths: Sequence[float],
    *,
    drawn: bool = False,
) -> None:
    """Score models at several depth ranges and write tables and the models to ship.

    Parameters
    ----------
    drawn
        Whether to score on drawn smears in place of the data set's test fields.
    """
    out.mkdir(parents=True, exist_ok=True)
    cards = [_to_float16(path, out) for path in models]
    files = [out / f"{card.name}.safetensors" for card in cards]
    methods = Scorer(files).methods
    data = data_set()
    test, tuning = data.read(images, "test"), data.read(images, "train")[:3]
    scores: dict[str, dict[str, object]] = {"sharp": dict(change_on_sharp(methods, test))}
    log.info("mean change of sharp input: %s", scores["sharp"])
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        mp_context=spawn, initializer=_start_worker, initargs=(files,)
    ) as pool:
        for depth in depths:
            threshold = threshold_of(tuning, depth)
            fields = [None] if drawn else test
            tasks = [Task(image, depth, seed, threshold) for seed in SEEDS for image in fields]
            found = summary(list(pool.map(_score, tasks)), methods)
            log.info("depth +-%g um: %s %s", depth, found["error_ratio"], found["masks"])
            scores[f"{depth:g} um"] = found
            _write(out, scores, "Drawn smears" if drawn else "Held-out CRIC fields")
            _write_cards(files, cards, scores)


def _write_cards(
    files: Sequence[Path], cards: Sequence[ModelCard], scores: dict[str, dict[str, object]]
) -> None:
    command = "python -m focusfuse_training.evaluate MODEL... --data DIR --out DIR"
    for path, card in zip(files, cards, strict=True):
        network, _ = load_model(path)
        found = {**card.scores, "benchmark": _of_model(card.name, scores), "command": command}
        save_model(path, network, replace(card, scores=found), half=True)


def _to_float16(path: Path, out: Path) -> ModelCard:
    network, card = load_model(path)
    return save_model(out / f"{card.name}.safetensors", network, card, half=True)


def _of_model(name: str, scores: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return what a model's card says of its scores."""
    found: dict[str, object] = {}
    for depth, parts in scores.items():
        for part, values in parts.items():
            if isinstance(values, dict) and name in values:
                found[f"{part}, {depth}"] = values[name]
        if name in parts:
            found["mean change of sharp input, grey levels"] = parts[name]
    return found


def _write(out: Path, scores: dict[str, dict[str, object]], specimens: str) -> None:
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"{specimens}, simulated defocus, seeds 0 to 4, SSIM-paper and its companions.",
        "",
    ]
    for depth, parts in scores.items():
        table: Table = parts.get("table")  # type: ignore[assignment]
        if not table:
            continue
        columns = list(next(iter(table.values())))
        lines += [f"Depth +-{depth}", "", "| method | " + " | ".join(columns) + " |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for name, row in table.items():
            lines.append(f"| {name} | " + " | ".join(f"{row[c]:.4f}" for c in columns) + " |")
        lines.append("")
    (out / "scores.md").write_text("\n".join(lines), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from a shell and return the exit code."""
    parser = argparse.ArgumentParser("focusfuse_training.evaluate", description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="model files")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set's images")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and models")
    parser.add_argument("--depths", type=float, nargs="+", default=list(DEPTHS_UM), metavar="UM")
    parser.add_argument("--drawn", action="store_true", help="score on drawn smears instead")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        evaluate(options.models, options.data, options.out, options.depths, drawn=options.drawn)
    except FocusFuseError as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
