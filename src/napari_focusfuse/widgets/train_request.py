"""What the user wants trained, as values: recipes, slides, settings; no window, no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from napari_focusfuse.benchmark_definition import DataError, data_set
from napari_focusfuse.model_card import ModelError, read_card, shipped_models
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Slide
from napari_focusfuse.training_config import RecipeError, Setting, TrainingConfig, recipes
from napari_focusfuse.training_run import SlideSource, TrainingData, TrainingRun

What = Literal["one", "three", "blur"]

WHAT_TITLES: dict[What, str] = {
    "one": "one focus layer",
    "three": "three focus layers",
    "blur": "blur mask",
}

OWN_IMAGES = "images"
"""A recipe's ``data_set`` where the sharp images are a folder of the user's own."""

_FIRST = ("swift", "small-blur", "paper")
"""Families of recipes that are offered before the others, in this order."""

BLUR_ARCHITECTURES = ("small-blur", "blur")


@dataclass(frozen=True)
class SlideOffer:
    """What a slide has to learn from."""

    path: Path
    planes: int
    z_step_um: float | None
    """Distance between its focus layers in um, where it is known."""
    extended: bool
    """Whether it holds an extended focus."""

    @classmethod
    def of(cls, slide: Slide) -> SlideOffer:
        """Return what an open slide offers; reads no pixel."""
        return cls(slide.path, len(slide.planes), slide.z_step_um, slide.extended is not None)

    @property
    def text(self) -> str:
        """The offer in one line."""
        layers = f"{self.planes} focus layer{'s' if self.planes > 1 else ''}"
        step = f", {self.z_step_um:.2g} µm apart" if self.z_step_um is not None else ""
        return f"{layers}{step} · {'extended focus' if self.extended else 'no extended focus'}"

    @property
    def references(self) -> tuple[tuple[str, str], ...]:
        """What may count as the truth: (reference, title), the best first; a file always may."""
        found = []
        if self.extended:
            found.append(("extended", "its extended focus"))
        if self.planes > 1:
            found.append(("fusion:evidence", "fusion of all its layers"))
        return tuple(found)

    def problem(self, what: What) -> str:
        """Return why it cannot teach this, or nothing."""
        needed = {"one": 1, "three": 3, "blur": 2}[what]
        if self.planes >= needed:
            return ""
        return f"{self.path.name} has {self.planes} of the {needed} focus layers that it takes."


def look_at(paths: Iterable[Path]) -> list[SlideOffer]:
    """Open slides one after the other and say what they offer; for a worker.

    Raises
    ------
    SlideError
        If one of them cannot be opened.
    """
    offers = []
    for path in paths:
        with open_slide(path) as slide:
            offers.append(SlideOffer.of(slide))
    return offers


# ---------------------------------------------------------------------- recipes and settings


def what_of(config: TrainingConfig) -> What | None:
    """Return what a recipe trains, or None where the window does not offer it."""
    if config.task == "segment":
        return "blur"
    one_or_three: dict[int, What] = {1: "one", 3: "three"}
    return one_or_three.get(config.planes) if config.task == "fuse" else None


def offered_recipes(what: What) -> tuple[TrainingConfig, ...]:
    """Return the recipes for this, the recommended ones first."""
    return tuple(config for config in _recipes() if what_of(config) == what)


def _recommended(config: TrainingConfig) -> tuple[int, str]:
    return _rank(config.name), config.name


@cache
def _recipes() -> tuple[TrainingConfig, ...]:
    configs = [_at_hand(TrainingConfig.read(path)) for path in recipes().values()]
    return tuple(sorted(configs, key=_recommended))


def _at_hand(config: TrainingConfig) -> TrainingConfig:
    """Replace models that a recipe names in folders of its makers by those that are shipped."""
    changes: dict[str, Any] = {}
    if config.start and not Path(config.start).is_file():
        changes["start"] = str(shipped_models().get(Path(config.start).parent.name, ""))
    if config.blur_model and not Path(config.blur_model).is_file():
        changes["blur_model"] = next(iter(blur_models(())), config.blur_model)
    return replace(config, **changes)


def _rank(name: str) -> int:
    """Return the place of a name's family among those that are recommended."""
    return next((i for i, n in enumerate(_FIRST) if name.startswith(n)), len(_FIRST))


def blur_models(runs: Sequence[Path]) -> dict[str, str]:
    """Return blur models a generator may take masks from: name or file to title, runs' first.

    Of those that are shipped, the recommended one comes first.

    Parameters
    ----------
    runs
        Folders of runs, the newest first.
    """
    found: dict[str, str] = {}
    files = [(str(TrainingRun(folder).best), TrainingRun(folder).best) for folder in runs]
    shipped = sorted(shipped_models().items(), key=lambda model: _rank(model[0]))
    for name, path in (*files, *shipped):
        if not path.is_file():
            continue
        try:
            card = read_card(path)
        except ModelError:
            continue
        if card.architecture in BLUR_ARCHITECTURES:
            where = path.parent.name if name == str(path) else "shipped"
            found[name] = f"{card.title} ({where})"
    return found


@dataclass(frozen=True)
class SettingField:
    """One setting of a recipe, as a form shows it."""

    key: str
    """The field's name; ``table.key`` for a setting of the network or the discriminator."""
    value: Setting
    help: str
    choices: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.key.replace("_", " ").replace(".", ": ")


def setting_fields(config: TrainingConfig) -> tuple[SettingField, ...]:
    """Return every setting of a recipe, those of its tables one by one."""
    found = []
    for each in fields(config):
        value, text = getattr(config, each.name), str(each.metadata.get("help", each.name))
        if isinstance(value, Mapping):
            found += [SettingField(f"{each.name}.{k}", v, text) for k, v in value.items()]
        else:
            found.append(SettingField(each.name, value, text, each.metadata.get("choices", ())))
    return tuple(found)


def with_settings(config: TrainingConfig, changes: Mapping[str, Setting]) -> TrainingConfig:
    """Return a recipe with some settings changed, by the keys of :func:`setting_fields`.

    Raises
    ------
    RecipeError
        If a value is impossible.
    """
    table = asdict(config)
    for key, value in changes.items():
        name, _, inner = key.partition(".")
        if inner:
            table[name] = {**table[name], inner: value}
        else:
            table[name] = value
    return TrainingConfig.from_table(table)


# ---------------------------------------------------------------------- the run


@dataclass(frozen=True)
class TrainRequest:
    """The form's fields, as values."""

    config: TrainingConfig
    slides: tuple[SlideSource, ...]
    images: Path | None
    """Folder of sharp images to simulate from."""
    folder: Path
    """Where the run goes."""
    device: str = "auto"


def create_run(request: TrainRequest) -> TrainingRun:
    """Make the run's folder; the training itself is started by :mod:`.training_job`.

    Raises
    ------
    RecipeError
        If there is nothing to learn from, or the folder holds a run already.
    RunError
        If the folder cannot be written.
    """
    config, run = request.config, TrainingRun(request.folder)
    if not request.slides and request.images is None:
        raise RecipeError(
            "There is nothing to learn from; choose a slide, or a folder of sharp images."
        )
    if run.config_file.exists():
        raise RecipeError(
            f"{request.folder} holds a run already; choose another folder, or resume that one."
        )
    config = replace(config, data_set=_data_set(request.images, config.data_set))
    run.create(config, TrainingData(images=request.images, slides=request.slides))
    return run


def _data_set(images: Path | None, known: str) -> str:
    """Return what a recipe's ``data_set`` must say of a folder of images."""
    if images is None:
        return ""
    try:
        parts = data_set(known).images
    except DataError:
        return OWN_IMAGES
    names = (*parts["train"], *parts["validation"])
    return known if all((images / name).is_file() for name in names) else OWN_IMAGES


def free_folder(parent: Path, name: str) -> Path:
    """Return a folder of this name that does not exist yet: ``name``, ``name-2``, ..."""
    number, folder = 1, parent / name
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder
