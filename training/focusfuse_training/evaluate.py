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
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import (
    BORDER_PX,
    CAMERA,
    DEPTHS_UM,
    OPTICS,
    SEEDS,
    SimulatedStack,
    benchmark_stack,
    data_set,
    simulate,
)
from napari_focusfuse.defocus import blur_labels
from napari_focusfuse.fusion.catalogue import detector_info, load_method, model_info
from napari_focusfuse.fusion.method import FusionMethod, to_uint8
from napari_focusfuse.fusion.neural import (
    BlurDetector,
    NeuralMethod,
    load_detector,
    load_neural,
)
from napari_focusfuse.metrics import score
from napari_focusfuse.model_card import ModelCard
from napari_focusfuse.slide import FocusFuseError, UInt8Image
from napari_focusfuse.weights import load_model, save_model

from .controls import (
    BoolImage,
    fit_threshold,
    foreground,
    gaussian,
    intersection_over_union,
    non_local_means,
    sharpness,
)
from .trainer import is_blur_model

log = logging.getLogger(__name__)

NOISE = 255 / CAMERA.electrons**0.5
"""Grey levels of shot noise on white: what the denoising controls are told."""
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


def score_depth(rows: Sequence[Entry], stacks: Sequence[SimulatedStack]) -> Table:
    """Return each row's mean scores over the stacks of one depth range."""
    totals: dict[str, list[dict[str, float]]] = defaultdict(list)
    for stack in stacks:
        for row in rows:
            totals[row.name].append(score(row.fuse(stack), stack.truth(row.planes), BORDER_PX))
    return {
        name: {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
        for name, scores in totals.items()
    }


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


def score_blur(
    detector: BlurDetector,
    stacks: Sequence[SimulatedStack],
    tuning: Sequence[SimulatedStack],
) -> dict[str, float]:
    """Return IoU, precision and recall of a blur mask, and the IoU of what it must beat."""
    truths = [blur_labels(OPTICS, s.height_um, 0.0) for s in stacks]
    masks = [detector(s.planes[1][None].astype(np.float32) / 255.0)[0] >= 0.5 for s in stacks]
    threshold = fit_threshold(
        [s.planes[1] for s in tuning], [blur_labels(OPTICS, s.height_um, 0.0) for s in tuning]
    )
    simple = [sharpness(s.planes[1]) < threshold for s in stacks]
    cells = [foreground(s.truth_one) for s in stacks]
    hits = sum(int((m & t).sum()) for m, t in zip(masks, truths, strict=True))
    return {
        "iou": intersection_over_union(masks, truths),
        "iou_sharp": intersection_over_union([~m for m in masks], [~t for t in truths]),
        "iou_cells": _within(masks, truths, cells),
        "precision": hits / max(1, sum(int(m.sum()) for m in masks)),
        "recall": hits / max(1, sum(int(t.sum()) for t in truths)),
        "variance_of_laplacian_iou": intersection_over_union(simple, truths),
        "variance_of_laplacian_iou_sharp": intersection_over_union(
            [~m for m in simple], [~t for t in truths]
        ),
        "variance_of_laplacian_iou_cells": _within(simple, truths, cells),
        "all_blurred_iou": intersection_over_union([np.ones_like(t) for t in truths], truths),
    }


def _within(
    masks: Sequence[BoolImage], truths: Sequence[BoolImage], cells: Sequence[BoolImage]
) -> float:
    """Return the IoU counted on cells only."""
    return intersection_over_union(
        [m & c for m, c in zip(masks, cells, strict=True)],
        [t & c for t, c in zip(truths, cells, strict=True)],
    )


def render_stacks(
    images: Sequence[UInt8Image], depth_um: float, seeds: Sequence[int]
) -> list[SimulatedStack]:
    """Render the benchmark's stacks of one depth range on all cores."""
    tasks = [(image, depth_um, seed) for seed in seeds for image in images]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(benchmark_stack, *zip(*tasks, strict=True)))


def evaluate(models: Sequence[Path], images: Path, out: Path, depths: Sequence[float]) -> None:
    """Score models at several depth ranges and write tables and the models to ship."""
    out.mkdir(parents=True, exist_ok=True)
    cards = [_to_float16(path, out) for path in models]
    files = [(out / f"{card.name}.safetensors", card) for card in cards]
    methods = [
        load_neural(model_info(*file)) for file in files if not is_blur_model(file[1].architecture)
    ]
    detectors = [
        load_detector(detector_info(*file)) for file in files if is_blur_model(file[1].architecture)
    ]
    data = data_set()
    test, tuning = data.read(images, "test"), data.read(images, "train")[:3]
    scores: dict[str, dict[str, object]] = {"sharp": dict(change_on_sharp(methods, test))}
    rows = entries(methods) if methods else []
    for depth in depths:
        stacks = render_stacks(test, depth, SEEDS)
        table = score_depth(rows, stacks)
        scores[f"{depth:g} um"] = {
            "table": table,
            "error_ratio": error_ratios(table, methods),
            "blur": {
                d.info.name: score_blur(d, stacks, render_stacks(tuning, depth, SEEDS[:1]))
                for d in detectors
            },
        }
        log.info("depth +-%g um: %s", depth, scores[f"{depth:g} um"]["error_ratio"])
        _write(out, scores)
    command = "python -m focusfuse_training.evaluate MODEL... --data DIR --out DIR"
    for path, card in files:
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


def _write(out: Path, scores: dict[str, dict[str, object]]) -> None:
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    lines = [
        "Held-out CRIC fields, simulated defocus, seeds 0 to 4, SSIM-paper and its companions.",
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
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        evaluate(options.models, options.data, options.out, options.depths)
    except FocusFuseError as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
