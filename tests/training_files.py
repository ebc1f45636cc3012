"""Small drawn images to train on, and recipes that are done in seconds."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_focusfuse.defocus import gaussian_blur
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.training_config import TrainingConfig

SIDE = 160


def draw_images(folder: Path) -> Path:
    """Four noisy images, one for each part, and the data set that names them."""
    rng = np.random.default_rng(0)
    lines = ['name = "drawn"', 'doi = ""', 'licence = ""', 'citation = ""', "mpp = 0.243"]
    for part in ("train", "validation", "calibration", "test"):
        values = gaussian_blur(rng.random((SIDE, SIDE, 3), dtype=np.float32), 1.5)
        path = folder / f"{part}.png"
        Image.fromarray(to_uint8(values)).save(path)
        lines += [f"[{part}]", f'"{path.name}" = "{hashlib.sha256(path.read_bytes()).hexdigest()}"']
    (folder / "drawn.toml").write_text("\n".join(lines))
    return folder


def tiny_config(images: Path, **changes: object) -> TrainingConfig:
    """A network of a few thousand weights on two stacks."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "title": "Tiny",
        "architecture": "swift",
        "network": {"planes": 1, "width": 4, "quarter_blocks": 1},
        "data_set": str(images / "drawn.toml"),
        "stacks": 2,
        "stack_px": SIDE,
        "steps": 2,
        "batch": 1,
        "patch": 32,
        "validate_every": 1,
        "log_every": 1,
        "precision": "32-true",
    }
    return TrainingConfig(**{**settings, **changes})


def write_recipe(path: Path, images: Path, **changes: object) -> Path:
    """The same as a file."""
    path.write_text(tiny_config(images, **changes).to_toml())
    return path


def arguments(recipe: Path, images: Path, out: Path) -> list[str]:
    """What follows ``python -m focusfuse_training``."""
    # The cache is shared: rendering is what takes the time.
    data = ["--data", str(images), "--cache", str(images / "cache")]
    return [str(recipe), *data, "--out", str(out), "--device", "cpu"]


@contextmanager
def trainer(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A trainer in a process of its own, ended with the test."""
    command = [sys.executable, "-P", "-m", "focusfuse_training", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()
