"""All that a run learns from and is judged by: groups of stacks, split by slide or source image."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_focusfuse.benchmark_definition import OPTICS, Z_STEP_UM, DataError
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import TrainingData, TrainingRun

from .annotated import Pair
from .patch_cache import make_room, stack_bytes
from .sharp_images import SharpImages, sharp_images
from .simulation import render_cache, stack_paths
from .sources import Source, pair_source, pairs_found, slide_source, slides_surveyed
from .split import PARTS, Split
from .squares import thinned
from .stack import StackError, StackFile

if TYPE_CHECKING:  # slides need readers, which a bare machine that only simulates does not have
    from .slide_patches import Survey

log = logging.getLogger(__name__)

VALIDATION_STACKS = 8
"""Most stacks a validation reads; as many are kept for a test."""
_SIMULATED_PLANES = 3


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
    mpp: float | None = OPTICS.mpp
    """Micrometres per pixel the model learns; None if the slides do not say."""
    z_step_um: float | None = Z_STEP_UM
    """Distance of the planes it gets; None if the slides do not say, or it gets one."""


@dataclass
class _Plan:
    """How many patches of which source are taken."""

    train: list[tuple[Source, int]] = field(default_factory=list)
    held: dict[str, list[tuple[Source, int]]] = field(default_factory=dict)

    def paths(self) -> list[Path]:
        """Return the cache's files of all of them."""
        taken = [("train", *each) for each in self.train]
        taken += [(part, *each) for part, some in self.held.items() for each in some]
        return [path for part, source, count in taken for path in source.paths(part, count)]


def gather(config: TrainingConfig, data: TrainingData, run: TrainingRun) -> Corpus:
    """Return the run's stacks, cutting and rendering what the cache lacks.

    The split is drawn by the recipe's seed at the first call and read from the run afterwards.

    Raises
    ------
    RecipeError, DataError, SlideError, StackError
        If there is nothing to learn from, an image or slide is missing or unfit, the cache is too
        small, or the disk refuses.
    """
    cache = _made(data.cache or run.folder / "cache")
    known = Split.read(run.split_file)
    images = sharp_images(config, data.images, known)
    if images is None and not data.slides and data.annotated is None:
        raise DataError(
            f"The recipe {config.name} learns from the images of {config.data_set!r}; name their "
            "folder, or slides, with --data."
        )
    surveys = slides_surveyed(config, data, cache, known)
    pairs = pairs_found(config, data, known)
    if known is None:
        _write(run, surveys, pairs, images)
    sources = [slide_source(found, config) for found in surveys]
    sources += [pair_source(*pair, config, cache) for pair in pairs]
    return _gathered(config, cache, images, sources, surveys)


def _made(cache: Path) -> Path:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"The cache {cache} cannot be made ({error.strerror}); choose another with --cache."
        ) from None
    return cache


def _gathered(
    config: TrainingConfig,
    cache: Path,
    images: SharpImages | None,
    sources: Sequence[Source],
    surveys: Sequence[Survey],
) -> Corpus:
    """Plan within the cache's bound, make room, then cut and render."""
    held = {part: _held(sources, part, config.seed) for part in ("validation", "test")}
    if any(source.counts.get("train") for source in sources) and config.simulated_share == 0:
        images = None
    simulated = [] if images is None else _simulated(config, cache, images, not held["validation"])
    plan = _planned(config, sources, held, len(_files(simulated)))
    paths = [*plan.paths(), *_files(simulated)]
    needed = len(plan.paths()) * stack_bytes(config.patch, config.planes)
    needed += len(_files(simulated)) * stack_bytes(config.stack_px, _SIMULATED_PLANES)
    make_room(cache, paths, needed, config.cache_gb * 1e9)
    found = {each.name: each.files() for each in simulated}
    cut = {
        part: [file for source, count in some for file in source.cut(part, count)]
        for part, some in plan.held.items()
    }
    validation = cut["validation"] or list(found.pop("validation", []))
    if not validation:
        raise DataError("There is nothing to validate with; add a second slide or annotated image.")
    found.pop("validation", None)
    groups: dict[str, list[StackFile]] = {name: list(files) for name, files in found.items()}
    for source, count in plan.train:
        groups.setdefault(source.group, []).extend(source.cut("train", count))
    return Corpus(
        _weighted(groups, config), tuple(validation), tuple(cut["test"]), *_scale(surveys, config)
    )


def _weighted(groups: Mapping[str, list[StackFile]], config: TrainingConfig) -> tuple[Group, ...]:
    """Return the groups with their shares; what an absent group would have had goes to the rest."""
    present = {name: tuple(files) for name, files in groups.items() if files}
    if not present:
        raise DataError("There is nothing to train on; set stacks above 0, or add a slide.")
    simulated = sum(len(files) for n, files in present.items() if n in ("stack", "degraded"))
    rest = 1 - (config.annotated_share if "annotated" in present else 0.0)
    shares = {"annotated": config.annotated_share, "slides": rest * (1 - config.simulated_share)}
    found = []
    for name, files in present.items():
        weight = shares.get(name)
        if weight is None:
            weight = rest * config.simulated_share * len(files) / simulated
        found.append(Group(name, weight, files))
    if sum(group.weight for group in found) <= 0:  # a share of 0, and nothing else is there
        return tuple(Group(group.name, 1.0, group.files) for group in found)
    return tuple(group for group in found if group.weight > 0)


def _scale(surveys: Sequence[Survey], config: TrainingConfig) -> tuple[float | None, float | None]:
    """Return pixel size and step of planes of what is learnt: the slides' where there are any."""
    step = None if config.planes == 1 else Z_STEP_UM
    if not surveys:
        return OPTICS.mpp, step
    sizes = [sum(s.mpp) / 2 for s in surveys if s.mpp is not None]
    steps = [s.z_step_um for s in surveys if s.z_step_um is not None]
    if step is not None:
        step = sum(steps) / len(steps) if steps else None
    return (sum(sizes) / len(sizes) if sizes else None), step


def _write(
    run: TrainingRun,
    surveys: Sequence[Survey],
    pairs: Sequence[tuple[Pair, str]],
    images: SharpImages | None,
) -> None:
    """Note the split in the run."""
    split = Split()
    for found in surveys:
        split.add(found.name, list(found.places))
        if found.regions:
            split.regions[found.name] = found.regions
            text = (
                f"regions of {found.name} are held out, for no other slide validates: the scores "
                "say little about other slides"
            )
            log.info(text)
            run.log({"event": "data", "text": text})
    for pair, part in pairs:
        split.add(pair.name, [part])
    if images is not None:
        for part in PARTS:
            for name in images.parts[part]:
                split.add(name, [part])
        split.regions.update(images.regions)
    split.write(run.split_file)


# ---------------------------------------------------------------------- simulated stacks


@dataclass(frozen=True)
class _Rendering:
    """Stacks to render for one use."""

    name: str
    images: SharpImages
    part: str
    folder: Path
    count: int
    seed: int
    side: int

    @property
    def degraded(self) -> bool:
        return self.name == "degraded"

    def paths(self) -> list[Path]:
        """Return their files."""
        return stack_paths(self.folder, self.count, self.seed, self.side, degraded=self.degraded)

    def files(self) -> list[StackFile]:
        """Render what is missing."""
        fields = self.images.read(self.part)
        return render_cache(
            self.folder, fields, self.count, self.seed, side=self.side, degraded=self.degraded
        )


def _simulated(
    config: TrainingConfig, cache: Path, images: SharpImages, validates: bool
) -> list[_Rendering]:
    if config.patch > config.stack_px:
        raise RecipeError(
            f"patch = {config.patch} in the recipe must be at most stack_px = {config.stack_px}."
        )
    counts = [("stack", config.stacks, "train"), ("degraded", config.degraded, "train")]
    if validates:
        counts.append(("validation", VALIDATION_STACKS, "validation"))
    return [
        _Rendering(
            name=name,
            images=images,
            part=part,
            folder=cache / f"{images.name}-{part}",
            count=count,
            seed=config.seed + (part == "validation"),
            side=config.stack_px,
        )
        for name, count, part in counts
        if count
    ]


def _files(renderings: Sequence[_Rendering]) -> list[Path]:
    return [path for each in renderings for path in each.paths()]


# ---------------------------------------------------------------------- how many of which


def _held(sources: Sequence[Source], part: str, seed: int) -> list[tuple[Source, int]]:
    """Spread the stacks of a validation or test over its slides."""
    able = [source for source in sources if source.counts.get(part)]
    if not able:
        return []
    chosen = thinned(able, VALIDATION_STACKS, seed)
    each, more = divmod(VALIDATION_STACKS, len(chosen))
    return [(source, each + (index < more)) for index, source in enumerate(chosen)]


def _planned(
    config: TrainingConfig,
    sources: Sequence[Source],
    held: dict[str, list[tuple[Source, int]]],
    stacks: int,
) -> _Plan:
    """Take as many patches of each slide as the recipe allows and the cache holds."""
    able = [source for source in sources if source.counts.get("train")]
    one = stack_bytes(config.patch, config.planes)
    other = stacks * stack_bytes(config.stack_px, _SIMULATED_PLANES)
    other += one * sum(min(s.counts[p], n) for p, some in held.items() for s, n in some)
    room = int((config.cache_gb * 1e9 - other) // one)
    wanted = [min(source.counts["train"], config.patches_per_slide) for source in able]
    most = config.patches_per_slide
    if room < max(0, len(able)):
        raise RecipeError(
            f"cache_gb = {config.cache_gb:g} in the recipe is too little: {other / 1e9:.3g} GB are "
            "needed beside a patch of each slide; raise it, or lower stacks or patch."
        )
    if sum(wanted) > room:
        most = room // len(able)
        log.info(
            "the cache holds %g GB: %d patches of each slide in place of up to %d",
            config.cache_gb,
            most,
            max(wanted),
        )
    return _Plan([(source, most) for source in able], held)
