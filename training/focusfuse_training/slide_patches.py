"""Training patches from slides: which squares of which planes, cut once into the cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import Z_STEP_UM, DataError
from napari_focusfuse.fusion import MethodInfo, choose_planes
from napari_focusfuse.readers import open_slide
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import FocalPlane, Region, Slide, SlideError
from napari_focusfuse.training_config import TrainingConfig
from napari_focusfuse.training_run import SlideSource

from .focus_labels import label_blur
from .patch_cache import is_whole
from .reference import PlaneReference, Reference, identity, opened
from .squares import Parts, Place, held_out, squares, with_cells
from .stack import SUFFIX, StackFile, TrainingStack

log = logging.getLogger(__name__)

_FORMAT = 1
"""Counted up when the same square would be cut differently."""


@dataclass(frozen=True)
class Survey:
    """What a slide can give: the squares that hold cells, and where they go in the cache."""

    source: SlideSource
    name: str
    folder: Path
    """Of the slide's patches: another for other settings, or once the slide has changed."""
    places: dict[str, list[Place]]
    """Part -> squares."""
    regions: Parts
    """Part -> region; empty if all of the slide is one part."""
    mpp: tuple[float, float] | None
    z_step_um: float | None
    """Mean distance of the planes that are taken; None if unknown, or one is taken."""

    def paths(self, places: Sequence[Place]) -> list[Path]:
        """Return the cache's files of some squares."""
        return [self.folder / f"{y:06}-{x:06}{SUFFIX}" for y, x in places]


def survey(
    source: SlideSource,
    name: str,
    config: TrainingConfig,
    cache: Path,
    *,
    part: str,
    regions: Parts | None = None,
) -> Survey:
    """Look where a slide holds cells; no patch is cut yet.

    Parameters
    ----------
    name
        What the split calls the slide.
    part
        The part all of the slide belongs to; empty: the slide is divided by ``regions``.
    regions
        How it was divided before; None: divide it now.

    Raises
    ------
    SlideError, DataError, PlaneError
        If the slide is gone, too small or empty, or lacks the planes or the reference.
    """
    with open_slide(source.path) as slide:
        taken = _model_planes(slide, config)  # complains before anything is read
        if part:
            regions = {}
            places = {part: _places(slide, slide.bounds, config)}
        elif regions is None:
            regions, places = _divided(slide, config)
        else:
            places = {p: _places(slide, area, config) for p, area in regions.items()}
        _check_found(slide, places, config)
        every = sorted({place for some in places.values() for place in some})
        with _reference(slide, source, every, config) as reference:
            covered = {
                p: [place for place in some if reference.covers(*place, config.patch)]
                for p, some in places.items()
            }
            _check_found(slide, covered, config)
            facts = (_FORMAT, identity(source.path), config.patch, config.planes)
            key = (*facts, config.task == "segment", reference.key)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        folder = cache / "slides" / f"{source.path.stem}-{digest}"
        return Survey(source, name, folder, covered, regions, slide.mpp, _step(taken))


def cut(found: Survey, places: Sequence[Place], config: TrainingConfig) -> list[StackFile]:
    """Cut what the cache lacks of some squares of a slide and return all of them.

    Raises
    ------
    SlideError, StackError
        If the slide cannot be read, or the disk refuses.
    """
    paths = found.paths(places)
    missing = [pair for pair in zip(places, paths, strict=True) if not is_whole(pair[1])]
    if missing:
        log.info("cutting %d of %d patches from %s", len(missing), len(paths), found.name)
        found.folder.mkdir(parents=True, exist_ok=True)
        every = sorted({place for some in found.places.values() for place in some})
        with (
            open_slide(found.source.path) as slide,
            _reference(slide, found.source, every, config) as reference,
        ):
            for place, path in missing:
                _cut_one(slide, reference, place, config).save(path)
    return [StackFile(path) for path in paths]


def _cut_one(
    slide: Slide, reference: Reference, place: Place, config: TrainingConfig
) -> TrainingStack:
    (y, x), side = place, config.patch
    taken = _model_planes(slide, config)
    # A mask is the thing to learn there, so every plane has a say in it; else those taken will do.
    judged = slide.planes if config.task == "segment" else taken
    stack = slide.read_stack(judged, 0, y, x, side, side)
    truth = reference.read(y, x, side)
    sampling = Sampling.of([plane.z_um for plane in taken], slide.mpp)
    told = [*sampling.gaps_um, sampling.mpp]
    return TrainingStack(
        planes=np.ascontiguousarray(stack[[judged.index(plane) for plane in taken]]),
        truth_one=truth,
        truth_three=truth,
        blurred=label_blur(
            stack, judged.index(slide.planes[slide.zero]), [plane.z_um for plane in judged]
        ),
        sampling=np.array([np.nan if value is None else value for value in told], np.float32),
    )


def _model_planes(slide: Slide, config: TrainingConfig) -> tuple[FocalPlane, ...]:
    """Return the planes that the model will get in use, by the same rules."""
    if config.task == "segment" and len(slide.planes) < 2:
        raise DataError(
            f"{slide.path.name} has one focus layer, and where it is blurred shows only beside "
            "another; choose a slide with more, or a folder of images with masks."
        )
    reach = config.planes // 2
    offsets = tuple(range(-reach, reach + 1))
    info = MethodInfo(config.name, config.title, "restoration", offsets, 0, z_step_um=Z_STEP_UM)
    if config.planes == 1:
        return choose_planes(slide, info, "one")
    return choose_planes(slide, info, "three" if config.planes == 3 else offsets)


def _step(planes: Sequence[FocalPlane]) -> float | None:
    heights = [plane.z_um for plane in planes if plane.z_um is not None]
    if len(planes) < 2 or len(heights) < len(planes):
        return None
    return (heights[-1] - heights[0]) / (len(planes) - 1)


@contextmanager
def _reference(
    slide: Slide, source: SlideSource, places: Sequence[Place], config: TrainingConfig
) -> Iterator[Reference]:
    if config.task == "segment":  # the mask is the truth
        yield PlaneReference(slide, slide.planes[slide.zero])
        return
    bound = config.reference_bound_um
    with opened(slide, source, places, config.patch, bound) as reference:
        yield reference


def _places(slide: Slide, area: Region, config: TrainingConfig) -> list[Place]:
    grid = squares(area, config.patch, config.overlap)
    return with_cells(slide, grid, config.patch, config.foreground)


def _divided(slide: Slide, config: TrainingConfig) -> tuple[Parts, dict[str, list[Place]]]:
    """Divide a slide so that each part holds cells."""
    for regions in held_out(slide.bounds, config.patch):
        places = {part: _places(slide, area, config) for part, area in regions.items()}
        if all(places.values()):
            return regions, places
    raise DataError(
        f"{slide.path.name} is too small, or holds too few cells, to keep a part of it for "
        f"validation with patches of {config.patch} px; add a second slide, or lower patch."
    )


def _check_found(slide: Slide, places: dict[str, list[Place]], config: TrainingConfig) -> None:
    if min(slide.bounds.height, slide.bounds.width) < config.patch:
        raise SlideError(
            f"{slide.path.name} has {slide.bounds.width} x {slide.bounds.height} pixels, less than "
            f"one patch of {config.patch} px; lower patch in the recipe."
        )
    if not all(places.values()):
        raise DataError(
            f"{slide.path.name} has no patch of {config.patch} px of which {config.foreground:.0%} "
            "is cells and which its reference covers; lower foreground in the recipe, or leave the "
            "slide out."
        )
