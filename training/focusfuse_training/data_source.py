"""From what a user names on the command line to what a run reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from napari_focusfuse.benchmark_definition import DataError, data_set
from napari_focusfuse.slide import SlideError, UnsupportedSlideError
from napari_focusfuse.training_config import RecipeError
from napari_focusfuse.training_run import SlideSource, TrainingData

from .annotated import pairs, pictures
from .sharp_images import OWN

log = logging.getLogger(__name__)

SLIDES_FILE = "slides.toml"
"""Name of a list of slides that a folder may hold."""
_NO_EXTENDED = "fusion:evidence"
"""Reference of a slide without extended focus, unless a list of slides says otherwise."""


def training_data(
    paths: Sequence[Path], cache: Path | None = None, sharp: str = "cric"
) -> TrainingData:
    """Return the data that paths stand for.

    Parameters
    ----------
    paths
        Each a folder with the data set's images, a folder of images with masks, a slide, a folder
        of slides, or a list of slides (``.toml``).
    cache
        Folder for patches; None: in the run, or as the list of slides says.
    sharp
        The recipe's data set; empty or ``"images"``: a folder of pictures that are no slide is
        taken for sharp images of the user's own.

    Raises
    ------
    DataError, RecipeError, SlideError
        If a path stands for nothing, or two for the same thing.
    """
    data = TrainingData()
    for path in paths:
        data = _joined(data, _understood(path, sharp))
    return data if cache is None else replace(data, cache=cache)


def _joined(first: TrainingData, second: TrainingData) -> TrainingData:
    for name in ("images", "annotated", "cache"):
        one, two = getattr(first, name), getattr(second, name)
        if one is not None and two is not None:
            raise RecipeError(f"Both {one} and {two} are given as {name}; give one of them.")
    return TrainingData(
        images=first.images or second.images,
        slides=(*first.slides, *second.slides),
        annotated=first.annotated or second.annotated,
        cache=first.cache or second.cache,
    )


def _understood(path: Path, sharp: str) -> TrainingData:
    if path.suffix.lower() == ".toml":
        return TrainingData.read(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path given with --data.")
    if path.is_dir():
        if (path / SLIDES_FILE).is_file():
            return TrainingData.read(path / SLIDES_FILE)
        if _holds_data_set(path, sharp):
            return TrainingData(images=path)
        if pairs(path):
            return TrainingData(annotated=path)
    if not path.is_dir():
        return TrainingData(slides=(_slide(path),))
    slides = _slides_of(path)
    if slides:
        return TrainingData(slides=slides)
    if sharp in OWN and pictures(path):
        return TrainingData(images=path)
    raise DataError(
        f"{path} holds neither images of {sharp or 'a data set'!r} nor a slide nor images with "
        "masks; name another folder with --data."
    )


def _holds_data_set(path: Path, sharp: str) -> bool:
    """Tell whether any image of the data set is there; that one is missing is said later."""
    if sharp in OWN:
        return False
    names = (name for part in data_set(sharp).images.values() for name in part)
    return any((path / name).is_file() for name in names)


def _slides_of(folder: Path) -> tuple[SlideSource, ...]:
    """Return the slide a folder is, or the slides it holds."""
    from napari_focusfuse.readers import is_slide_folder

    if is_slide_folder(folder):
        try:
            return (_slide(folder),)
        except SlideError as error:  # a folder of stacks of equal size looks like one
            log.info("%s", error)
    return tuple(_slides_in(folder))


def _slides_in(folder: Path) -> Iterator[SlideSource]:
    from napari_focusfuse.readers import is_slide_folder

    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (path.is_dir() and not is_slide_folder(path)):
            continue
        try:
            yield _slide(path)
        except UnsupportedSlideError:
            continue
        except SlideError as error:
            log.warning("left out: %s", error)


def _slide(path: Path) -> SlideSource:
    """Return a slide with the best reference it has itself.

    Raises
    ------
    SlideError
        If it cannot be opened.
    """
    from napari_focusfuse.readers import open_slide

    with open_slide(path) as slide:
        fused = slide.extended is None and len(slide.planes) > 1
    return SlideSource(path, _NO_EXTENDED) if fused else SlideSource(path)
