"""All that a run learns from and is judged by: groups of stacks, split by slide or source image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_focusfuse.benchmark_definition import DataError, data_set
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import TrainingData, TrainingRun

from .simulation import render_cache
from .stack import StackFile

VALIDATION_STACKS = 8


@dataclass(frozen=True)
class Group:
    """Stacks of one origin."""

    name: str
    weight: float
    """Share of the patches that come from here, relative to the other groups' weights."""
    files: tuple[StackFile, ...]


@dataclass(frozen=True)
class Corpus:
    """What a run reads, by its use."""

    train: tuple[Group, ...]
    validation: tuple[StackFile, ...]
    test: tuple[StackFile, ...] = ()


def gather(config: TrainingConfig, data: TrainingData, run: TrainingRun) -> Corpus:
    """Return the run's stacks, rendering what the cache lacks.

    Raises
    ------
    RecipeError, DataError, StackError
        If there is nothing to learn from, an image is missing, or the disk refuses.
    """
    if config.patch > config.stack_px:
        raise RecipeError(
            f"patch = {config.patch} in the recipe must be at most stack_px = {config.stack_px}."
        )
    return _simulated(config, data, data.cache or run.folder / "cache")


def _simulated(config: TrainingConfig, data: TrainingData, cache: Path) -> Corpus:
    if data.images is None:
        raise DataError(
            f"The recipe {config.name} learns from the images of {config.data_set!r}; name their "
            "folder with --data."
        )
    sharp, side = data_set(config.data_set), config.stack_px
    known_as = Path(config.data_set).stem  # a data set may be given by the path of its file
    fields = sharp.read(data.images, "train")
    groups = []
    for name, count in (("stack", config.stacks), ("degraded", config.degraded)):
        if count:
            files = render_cache(
                cache / f"{known_as}-train",
                fields,
                count,
                config.seed,
                side=side,
                degraded=name == "degraded",
            )
            groups.append(Group(name, float(count), tuple(files)))
    held_out = render_cache(
        cache / f"{known_as}-validation",
        sharp.read(data.images, "validation"),
        VALIDATION_STACKS,
        config.seed + 1,
        side=side,
    )
    return Corpus(tuple(groups), tuple(held_out))
