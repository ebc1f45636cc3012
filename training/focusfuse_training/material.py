"""What models are judged on: simulated stacks, drawn smears, or the test split of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import (
    DEPTHS_UM,
    DRAWN_SHAPE,
    SEEDS,
    DataError,
    Part,
    data_set,
)
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.training_run import TrainingRun

from .corpus import gather
from .real_stack import REFERENCE, RealStack
from .sharp_images import sharp_images
from .split import Split
from .stack import StackFile
from .task import Square, Task

PATCH_PX = 512
"""Side of the squares of the tables: the paper's patches."""
_TUNING = 3
"""Training stacks on which the control's threshold is fitted."""
_REAL_SQUARES = 4
"""Squares of a real stack that the tables count."""


@dataclass(frozen=True)
class Extent:
    """How much is simulated."""

    depths: tuple[float, ...] = DEPTHS_UM
    """Heights are spread over plus and minus these, in micrometres."""
    patches: int = 30
    """How many squares are scored at each depth."""
    seeds: int = len(SEEDS)
    """Stacks of each field at each depth."""
    side: int | None = None
    """Of the middle of each field that is imaged; None: all of it."""

    def middle(self, field: UInt8Image) -> UInt8Image:
        """Return the part of a sharp (Y, X, 3) field that is imaged."""
        if self.side is None:
            return field
        y, x = (max(0, (length - self.side) // 2) for length in field.shape[:2])
        return field[y : y + self.side, x : x + self.side]


@dataclass(frozen=True)
class Material:
    """All that models are judged on in one evaluation."""

    specimens: str
    """What is in the pictures, as the tables' heads say it."""
    conditions: Mapping[str, tuple[Task, ...]]
    """Name such as ``"8 um"`` -> its stacks."""
    tuning: Mapping[str, tuple[Task, ...]]
    """The same of training stacks, on which a control's threshold is fitted."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """Those conditions whose specimens are of another kind than models learn from -> which kind."""
    calibration: tuple[Task, ...] = ()
    """Stacks of the calibration part, by which expected errors are made intervals."""
    sharp: tuple[UInt8Image, ...] = ()
    """Sharp fields, to see whether a model leaves alone what is in focus."""


def squares_in(shape: tuple[int, int], border: int, side: int, count: int) -> tuple[Square, ...]:
    """Return up to ``count`` squares spread over a picture, overlapping as little as they can.

    Parameters
    ----------
    shape
        (height, width) of the picture.
    border
        Pixels at each side that no square touches.
    """
    height, width = shape[0] - 2 * border, shape[1] - 2 * border
    side = min(side, height, width)

    def crowding(rows: int) -> float:
        return side * max(rows / height, math.ceil(count / rows) / width)

    rows = min(range(1, count + 1), key=crowding)
    tops = _starts(border, height - side, rows)
    lefts = _starts(border, width - side, math.ceil(count / rows))
    # A picture no larger than a square holds one, however many are wanted.
    return tuple(dict.fromkeys(Square(y, x, side) for y in tops for x in lefts))[:count]


def _starts(first: int, room: int, count: int) -> list[int]:
    if count == 1:
        return [first + room // 2]
    return [first + round(room * index / (count - 1)) for index in range(count)]


def _with_squares(
    tasks: Sequence[tuple[Task, tuple[int, int]]], patches: int, shown: int = 3
) -> tuple[Task, ...]:
    """Divide the tables' squares among the stacks, given with their (height, width)."""
    counts = [len(part) for part in np.array_split(np.arange(patches), len(tasks))]
    squares = [
        squares_in(shape, task.border, PATCH_PX, count) if count else ()
        for (task, shape), count in zip(tasks, counts, strict=True)
    ]
    total = sum(map(len, squares))
    chosen = {round(index) for index in np.linspace(0, total - 1, shown)}
    found, first = [], 0
    for (task, _), own in zip(tasks, squares, strict=True):
        mine = tuple(index - first for index in sorted(chosen) if 0 <= index - first < len(own))
        found.append(replace(task, squares=own, shown=mine))
        first += len(own)
    return tuple(found)


def simulated(
    name: str,
    parts: Mapping[str, Sequence[UInt8Image]],
    extent: Extent,
    *,
    drawn: bool = False,
) -> Material:
    """Return the benchmark's stacks of sharp fields, or its drawn smears.

    Parameters
    ----------
    name
        Of the data set.
    parts
        Its (Y, X, 3) sharp fields: ``"test"``, ``"train"`` and perhaps ``"calibration"``, of which
        every depth of the benchmark is imaged once.
    drawn
        Whether drawn smears take the place of the test fields.
    """
    middles = {part: [extent.middle(f) for f in fields] for part, fields in parts.items()}
    fields: Sequence[UInt8Image | None] = [None] if drawn else middles["test"]
    conditions, tuning = {}, {}
    for depth in extent.depths:
        tasks = [
            (Task(field, depth, seed), DRAWN_SHAPE if field is None else field.shape[:2])
            for seed in SEEDS[: extent.seeds]
            for field in fields
        ]
        conditions[f"{depth:g} um"] = _with_squares(tasks, extent.patches)
        tuning[f"{depth:g} um"] = tuple(
            Task(field, depth, SEEDS[0]) for field in middles["train"][:_TUNING]
        )
    told = f"simulated defocus, seeds {SEEDS[0]} to {SEEDS[extent.seeds - 1]}"
    if extent.side is not None:
        told += f", the middle {extent.side} px of each field"
    return Material(
        f"drawn smears, {told}" if drawn else f"{name}, test split, {told}",
        conditions,
        tuning,
        sharp=tuple(middles["test"]),
        calibration=tuple(
            Task(field, depth, SEEDS[0], calibrates=True)
            for field in middles.get("calibration", ())
            for depth in DEPTHS_UM
        ),
    )


def of_data_set(name: str, folder: Path, extent: Extent, *, drawn: bool = False) -> Material:
    """Return the stacks of a data set's test part.

    Raises
    ------
    DataError
        If there is no such data set, it has no test part, or the folder lacks an image.
    """
    images = data_set(name)
    if not images.images["test"]:
        raise DataError(f"The data set {name!r} keeps nothing for a test; name another.")
    wanted: tuple[Part, ...] = ("test", "train", "calibration")
    parts: dict[str, list[UInt8Image]] = {part: images.read(folder, part) for part in wanted}
    return simulated(images.name, parts, extent, drawn=drawn)


def with_unseen(material: Material, name: str, folder: Path, extent: Extent) -> Material:
    """Return it with the test fields of a data set that models did not learn from.

    Controls stay as they were fitted.

    Raises
    ------
    DataError
        As :func:`of_data_set`.
    """
    other, short = of_data_set(name, folder, extent), Path(name).stem
    called = {depth: f"{short} {depth}" for depth in other.conditions}
    conditions = {called[depth]: tasks for depth, tasks in other.conditions.items()}
    tuning = {called[depth]: material.tuning.get(depth, ()) for depth in other.conditions}
    return replace(
        material,
        specimens=f"{material.specimens}; {short}: {other.specimens}",
        conditions={**material.conditions, **conditions},
        tuning={**material.tuning, **tuning},
        unseen={**material.unseen, **dict.fromkeys(conditions, short)},
    )


def with_real(material: Material, name: str, stack: RealStack, patches: int) -> Material:
    """Return it with a real stack, whose middle planes are judged by the fusion of all.

    Raises
    ------
    SlideError, DataError
        If it cannot be read, or has too few planes.
    """
    shape = stack.shape()
    tasks = _with_squares([(Task(stack), shape)], min(patches, _REAL_SQUARES))
    return replace(
        material,
        specimens=f"{material.specimens}; {name}: the middle planes of a real stack against the "
        f"fusion of all by {REFERENCE}, which favours {REFERENCE} itself, the middle {shape[0]} x "
        f"{shape[1]} px, not registered",
        conditions={**material.conditions, name: tasks},
        tuning={**material.tuning, name: ()},
        unseen={**material.unseen, name: name},
    )


def of_run(run: TrainingRun, extent: Extent, *, drawn: bool = False) -> Material:
    """Return what a run keeps for the test: patches of its slides, or its data set's test part.

    Raises
    ------
    RecipeError, DataError, SlideError, StackError
        If the run's pictures are gone, or it keeps none for the test.
    """
    config, data = run.config(), run.data()
    if data.slides or data.annotated is not None:
        corpus = gather(config, data, run)
        if corpus.test:
            train = [file for group in corpus.train for file in group.files]
            return _of_files(run, corpus.test, extent.patches, train)
    images = sharp_images(config, data.images, Split.read(run.split_file))
    test = [] if images is None else images.read("test")
    if images is None or not test:
        raise DataError(
            f"The run {run.folder} keeps nothing for a test; name the data set's folder with "
            "--data."
        )
    return simulated(
        images.name, {"test": test, "train": images.read("train")}, extent, drawn=drawn
    )


def _of_files(
    run: TrainingRun, test: Sequence[StackFile], patches: int, train: Sequence[StackFile]
) -> Material:
    chosen = test[:patches]
    tasks = [(Task(file.path), file.shape) for file in chosen]
    tuning = tuple(Task(file.path) for file in train[:_TUNING])
    return Material(
        f"patches of slides, test split of {run.folder.name}",
        {"slides": _with_squares(tasks, max(patches, len(tasks)))},
        {"slides": tuning},
    )
