"""What patches can come from: slides and annotated images, each with its part of the split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_focusfuse.benchmark_definition import DataError
from napari_focusfuse.training_config import TrainingConfig
from napari_focusfuse.training_run import TrainingData

from . import annotated
from .annotated import Pair
from .split import Split, distinct, draw
from .squares import thinned
from .stack import StackFile

if TYPE_CHECKING:  # slides need readers, which a bare machine that only simulates does not have
    from .slide_patches import Survey

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A slide or an annotated image."""

    group: str
    counts: Mapping[str, int]
    """Part -> how many patches there are."""
    paths: Callable[[str, int], list[Path]]
    """Takes a part and a number; returns the cache's files of at most so many patches."""
    cut: Callable[[str, int], list[StackFile]]
    """Takes the same, cuts what the cache lacks and returns the stacks."""


def slides_surveyed(
    config: TrainingConfig, data: TrainingData, cache: Path, known: Split | None
) -> list[Survey]:
    """Return what each slide can give, by the split of the run or a new one.

    Raises
    ------
    SlideError, DataError, FocusFuseError
        If a slide is gone or unfit.
    """
    if not data.slides:
        return []
    from .slide_patches import survey

    names = distinct([slide.path for slide in data.slides])
    if known is None:
        fixed = {name: slide.part for name, slide in zip(names, data.slides, strict=True)}
        parts = draw(names, config.seed, fixed)
    else:  # a slide that was not there when the split was drawn may train, no more
        parts = {n: "" if n in known.regions else known.part_of(n) or "train" for n in names}
    regions = known.regions if known else {}
    return [
        survey(slide, name, config, cache, part=parts[name], regions=regions.get(name))
        for name, slide in zip(names, data.slides, strict=True)
    ]


def pairs_found(
    config: TrainingConfig, data: TrainingData, known: Split | None
) -> list[tuple[Pair, str]]:
    """Return the annotated images with their parts; one alone trains.

    Raises
    ------
    DataError
        If the folder holds none.
    """
    if data.annotated is None:
        return []
    if config.task != "segment":
        log.info("images with masks teach blur models only; %s is left out", data.annotated)
        return []
    found = annotated.pairs(data.annotated) if data.annotated.is_dir() else []
    if not found:
        raise DataError(
            f"{data.annotated} holds no image with a mask; put name.mask.png beside name.png."
        )
    names = [pair.name for pair in found]
    parts = {n: known.part_of(n) for n in names} if known else draw(names, config.seed)
    return [(pair, parts[pair.name] or "train") for pair in found]


def slide_source(found: Survey, config: TrainingConfig) -> Source:
    """Return a slide as a source of patches."""
    from .slide_patches import cut

    def taken(part: str, count: int) -> list[tuple[int, int]]:
        return thinned(found.places[part], count, config.seed)

    return Source(
        "slides",
        {part: len(places) for part, places in found.places.items()},
        lambda part, count: found.paths(taken(part, count)),
        lambda part, count: cut(found, taken(part, count), config),
    )


def pair_source(pair: Pair, part: str, config: TrainingConfig, cache: Path) -> Source:
    """Return an annotated image as a source of patches."""
    patches = pair.patches(cache, config.patch, config.overlap)

    def taken(count: int) -> list[tuple[int, int, Path]]:
        return thinned(patches, count, config.seed)

    return Source(
        "annotated",
        {part: len(patches)},
        lambda _, count: [path for _, _, path in taken(count)],
        lambda _, count: annotated.cut(pair, taken(count), config.patch),
    )
