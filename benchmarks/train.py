"""Print how fast recipes train: steps a second, waiting for data, share of the processor's peak.

Runs the real trainer on noise images for a few steps, in a folder that is gone afterwards.  The
peak is that of a large matrix product in the same run and precision; FLOPs are counted, not
estimated: forward and backward of generator, adversary and blur model.  Filling the patch cache is
timed apart.

Usage: python benchmarks/train.py [RECIPE ...] [--steps 60] [--device cpu] [--set KEY=VALUE]
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from focusfuse_training.corpus import gather
from focusfuse_training.learner import make_learner
from focusfuse_training.machine import make_fabric, precision_on
from focusfuse_training.patches import Feeder, Order
from focusfuse_training.trainer import Loop
from napari_focusfuse.defocus import gaussian_blur
from napari_focusfuse.model_card import shipped_models
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.training_config import TrainingConfig, recipes
from napari_focusfuse.training_run import TrainingData, TrainingRun
from napari_focusfuse.weights import load_model

RECIPES = ("swift-three", "swift-single", "small-blur", "paper-three-w16")
STACKS = 12
WARM_UP = 5


def write_images(folder: Path, side: int) -> str:
    """Write a data set of noise images; return its description's path."""
    rng = np.random.default_rng(0)
    lines = ['name = "noise"', 'doi = ""', 'licence = ""', 'citation = ""', "mpp = 0.243"]
    for part in ("train", "validation", "calibration", "test"):
        values = gaussian_blur(rng.random((side, side, 3), dtype=np.float32), 1.5)
        path = folder / f"{part}.png"
        Image.fromarray(to_uint8(values)).save(path)
        lines += [f"[{part}]", f'"{path.name}" = "{hashlib.sha256(path.read_bytes()).hexdigest()}"']
    description = folder / "noise.toml"
    description.write_text("\n".join(lines))
    return str(description)


def peak_gflops(device: torch.device, precision: str, side: int = 3072) -> float:
    """Return the GFLOP/s of a large matrix product."""
    kind = torch.bfloat16 if precision.startswith("bf16") else torch.float32
    a, b = (torch.rand(side, side, device=device, dtype=kind) for _ in range(2))
    best = 0.0
    for _ in range(5):
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - started) / 1e9)
    return best


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(name: str, steps: int, device: str, changes: dict[str, object]) -> None:
    """Train a recipe for some steps and print a line."""
    with tempfile.TemporaryDirectory() as folder:
        data = TrainingData(Path(folder), cache=Path(folder) / "cache")
        config = TrainingConfig.read(recipes()[name], changes)
        side = config.stack_px
        needed = {"stacks": STACKS, "degraded": 0, "data_set": write_images(Path(folder), side)}
        blur = None
        if config.blur_model:
            blur = load_model(shipped_models()["small-blur"])[0]
        config = TrainingConfig.read(recipes()[name], {**changes, **needed, "start": ""})
        run = TrainingRun(Path(folder) / "run")
        run.create(config, data)
        started = time.perf_counter()
        corpus = gather(config, data, run)
        filled = time.perf_counter() - started
        fabric = make_fabric(config, device)
        precision = precision_on(fabric.device.type, config)
        learner = make_learner(config, blur, fabric)
        loop = Loop(run, config, fabric, corpus, learner)
        order = Order(corpus.train, config.planes, config.patch, config.seed)
        with Feeder(order, 0, config.batch, config.batch) as feeder:
            with FlopCounterMode(display=False) as counter:
                loop.train_step(feeder.next().to(fabric.device))
            for _ in range(WARM_UP):
                loop.train_step(feeder.next().to(fabric.device))
            synchronize(fabric.device)
            waited, started = feeder.seconds_waited, time.perf_counter()
            for _ in range(steps):
                loop.train_step(feeder.next().to(fabric.device))
            synchronize(fabric.device)
            seconds = time.perf_counter() - started
            waiting = (feeder.seconds_waited - waited) / seconds
        gflops = counter.get_total_flops() * steps / seconds / 1e9
        peak = peak_gflops(fabric.device, precision)
        print(
            f"{name:18} {config.batch:2} x {config.patch} px  {precision:10}"
            f"  {steps / seconds:7.3f} steps/s  {seconds / steps:8.4f} s/step"
            f"  waiting {waiting:6.2%}  {gflops:8.1f} GFLOP/s = {gflops / peak:4.0%} of {peak:.0f}"
            f"  cache {filled / (STACKS + 8):.2f} s a stack"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    changes = tomllib.loads("\n".join(options.set))
    for name in options.recipes:
        measure(name, options.steps, options.device, changes)


if __name__ == "__main__":
    main()
