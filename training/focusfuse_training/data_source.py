"""From what a user names on the command line to what a run reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_focusfuse.training_run import TrainingData


def training_data(paths: Sequence[Path], cache: Path | None = None) -> TrainingData:
    """Return the data that paths stand for: a folder with the data set's images."""
    return TrainingData(images=paths[0] if paths else None, cache=cache)
