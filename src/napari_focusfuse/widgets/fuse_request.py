"""What the user asks for, resolved against the slide by pure functions; no window in here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from napari_focusfuse.fusion.catalogue import available_methods, method_info
from napari_focusfuse.fusion.maps import CONFIDENCE, DEPTH, FEWEST_PLANES
from napari_focusfuse.fusion.method import ERROR, INFERRED, MASK, MethodInfo
from napari_focusfuse.fusion.plan import FusionPlan, nearest_level, plan_fusion
from napari_focusfuse.fusion.planes import choose_planes, offset_names
from napari_focusfuse.layer_metadata import ViewWindow
from napari_focusfuse.model_card import ModelError
from napari_focusfuse.slide import MAX_REGION_PIXELS, FocusFuseError, RegionError, Slide

PlaneChoice = Literal["one", "three", "all"]

PLANE_TITLES: dict[PlaneChoice, str] = {
    "one": "one: the slider's",
    "three": "three: around the slider's",
    "all": "all",
}

LARGE_TILES = 100
"""Tiles from which a fusion asks before it starts."""

LARGE_SECONDS = 60.0
"""Seconds, where a rate is known, from which a fusion asks before it starts."""


@dataclass(frozen=True)
class MethodChoice:
    """An entry of the method list: a method, or a family of models for different plane counts."""

    name: str
    title: str
    planes: tuple[PlaneChoice, ...]
    advice: str = ""
    """When to choose it, in one line."""


@dataclass(frozen=True)
class FuseRequest:
    """The dock's fields and the view, as values."""

    slide: Slide
    method: str
    wanted: PlaneChoice
    window: ViewWindow
    factors: tuple[tuple[float, float], ...]
    """(y, x) downsampling of each level as the viewer draws it."""


_COUNTS: dict[int, PlaneChoice] = {1: "one", 3: "three"}


def method_choices(
    methods: Sequence[MethodInfo] | None = None, files: Sequence[Path] = ()
) -> tuple[MethodChoice, ...]:
    """Return what the method list offers; models of one family (``swift-*``) are one entry.

    Parameters
    ----------
    methods
        Those that are installed, or None to look.
    files
        Further model files, each an entry of its own.

    Raises
    ------
    ModelError
        If one of the files is no fusion model.
    """
    found: dict[str, list[MethodInfo]] = {}
    for info in available_methods() if methods is None else methods:
        family = info.name.partition("-")[0] if info.plane_offsets is not None else info.name
        found.setdefault(family, []).append(info)
    installed = (_choice(family, infos) for family, infos in found.items())
    return (*installed, *(_file_choice(path) for path in files))


def _file_choice(path: Path) -> MethodChoice:
    info = method_info(str(path))
    planes = _COUNTS.get(len(info.plane_offsets or ()))
    if planes is None:
        raise ModelError(f"{path.name} takes neither one nor three focus layers; choose another.")
    # Files of runs are all called best.safetensors: the folder tells them apart.
    return MethodChoice(str(path), f"{info.title} ({path.parent.name})", (planes,), info.advice)


def _choice(family: str, infos: Sequence[MethodInfo]) -> MethodChoice:
    if infos[0].plane_offsets is None:
        return MethodChoice(family, infos[0].title, ("three", "all", "one"), infos[0].advice)
    name = infos[0].name if len(infos) == 1 else family
    counts = [len(info.plane_offsets or ()) for info in infos]
    planes = tuple(_COUNTS[count] for count in sorted(counts, reverse=True) if count in _COUNTS)
    title = infos[0].title.partition(",")[0]
    return MethodChoice(name, title, planes, infos[0].advice)


def preferred_method(choices: Sequence[MethodChoice]) -> str:
    """Return what is chosen at first: the default model, or the best classical method."""
    names = [choice.name for choice in choices]
    return next(name for name in ("swift", "evidence", *names) if name in names)


def resolve(request: FuseRequest) -> FusionPlan:
    """Return the fusion that a request means.

    Raises
    ------
    FocusFuseError
        In one sentence, if it cannot be done.
    """
    slide = request.slide
    count = {"one": 1, "three": 3, "all": len(slide.planes)}[request.wanted]
    info = method_info(request.method, count)
    centre = slide.planes[request.window.plane]
    planes = choose_planes(slide, info, request.wanted, centre)
    level = nearest_level(slide, info)
    region = request.window.at(request.factors[level], slide.levels[level].shape)
    if not region.height or not region.width:
        raise RegionError(f"{slide.path.name} is not in view; move it into view.")
    if region.height * region.width > MAX_REGION_PIXELS:
        raise RegionError(
            f"The view covers {region.height * region.width / 1e6:,.0f} megapixels, and at most "
            f"{MAX_REGION_PIXELS / 1e6:.0f} can be fused at once; zoom in."
        )
    return plan_fusion(slide, info, planes, level, region, centre=centre)


def maps_of(plan: FusionPlan, wanted: Collection[str]) -> tuple[str, ...]:
    """Return the maps to make with a fusion: always the mask, the others where they are wanted.

    What the planes or the method cannot give is left out.
    """
    offered = {about.name for about in plan.info.offers}
    own = set(wanted) & offered
    measured = set() if len(plan.planes) < FEWEST_PLANES else set(wanted) & {DEPTH, CONFIDENCE}
    return (MASK.name, *sorted(own | measured))


def map_warning(plan: FusionPlan, wanted: Collection[str]) -> str | None:
    """Return a sentence if this method, or these planes, cannot give a map that is wanted."""
    if set(wanted) & {DEPTH, CONFIDENCE} and len(plan.planes) < FEWEST_PLANES:
        return f"no depth: that takes {FEWEST_PLANES} focus layers or more"
    offered = {about.name for about in plan.info.offers}
    if INFERRED.name in wanted and INFERRED.name not in offered:
        return "nothing is inferred: the method takes what the layers hold"
    if ERROR.name in wanted and ERROR.name not in offered:
        return "no error to expect: the method does not say it"
    return None


def resolve_regions(request: FuseRequest, windows: Sequence[ViewWindow]) -> list[FusionPlan]:
    """Return the fusion of each window, the request's own view left out.

    Raises
    ------
    FocusFuseError
        In one sentence that says which region it is, if one of them cannot be fused.
    """
    plans = []
    for number, window in enumerate(windows, start=1):
        inside = window.at((1.0, 1.0), request.slide.levels[0].shape)
        if not inside.height or not inside.width:
            raise RegionError(
                f"Region {number} is empty or lies outside {request.slide.path.name}; move it over "
                "the slide, or delete it."
            )
        try:
            plans.append(resolve(replace(request, window=window)))
        except FocusFuseError as error:
            raise type(error)(f"Region {number}: {error}") from error
    return plans


def describe(plan: FusionPlan, seconds_per_tile: float | None) -> str:
    """Return one line that says what a click will do.

    Parameters
    ----------
    seconds_per_tile
        As measured on earlier tiles of the same method, or None.
    """
    names = offset_names(plan.slide, plan.planes)
    parts = [f"layer{'s' if len(plan.planes) > 1 else ''} {names}"]
    parts.append(f"{plan.mpp[0]:.2f} um/px" if plan.mpp is not None else "pixel size unknown")
    parts.append(f"{len(plan.tiles):,} tile{'s' if len(plan.tiles) > 1 else ''}")
    if seconds_per_tile is None:
        parts.append("time unknown until the first tile")
    else:
        parts.append(f"about {duration(seconds_per_tile * len(plan.tiles))}")
    return " · ".join(parts)


def progress(done: int, total: int, seconds_per_tile: float | None) -> str:
    """Return one line on a fusion that is running."""
    if not done or seconds_per_tile is None:
        return "loading …"
    left = seconds_per_tile * (total - done)
    return f"{done} of {total} tiles · about {duration(left)} left"


def is_large(plan: FusionPlan, seconds_per_tile: float | None) -> bool:
    """Tell whether to ask before starting."""
    seconds = len(plan.tiles) * (seconds_per_tile or 0.0)
    return len(plan.tiles) > LARGE_TILES or seconds > LARGE_SECONDS


def size_question(plan: FusionPlan, seconds_per_tile: float | None) -> str:
    """Return the question asked before a large job."""
    megapixels = plan.region.height * plan.region.width / 1e6
    time = (
        "its time is unknown until the first tile"
        if seconds_per_tile is None
        else f"it takes about {duration(seconds_per_tile * len(plan.tiles))}"
    )
    return (
        f"The view covers {megapixels:,.0f} megapixels, {len(plan.tiles):,} tiles; {time}. "
        "Fuse all of it? Zooming in makes it smaller."
    )


def regions_question(plans: Sequence[FusionPlan], seconds_per_tile: float | None) -> str | None:
    """Return the question asked before many or large regions are fused; None: ask nothing."""
    tiles = sum(len(plan.tiles) for plan in plans)
    seconds = tiles * (seconds_per_tile or 0.0)
    if tiles <= LARGE_TILES and seconds <= LARGE_SECONDS:
        return None
    time = f"about {duration(seconds)}" if seconds else "a time unknown until the first tile"
    return f"{len(plans)} regions take {tiles:,} tiles and {time}. Fuse all of it?"


def duration(seconds: float) -> str:
    """Return a time as people say it, such as ``"4 s"`` or ``"12 min"``."""
    if seconds < 1:
        return "1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
