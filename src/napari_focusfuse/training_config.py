"""A training recipe: everything that decides what a run trains.  Nothing here needs torch."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from .slide import FocusFuseError

Setting = str | int | float | bool
Task = Literal["fuse", "segment", "choose"]
_TASKS: dict[str, Task] = {"blur": "segment", "small-blur": "segment", "liu": "choose"}


class RecipeError(FocusFuseError, ValueError):
    """A training recipe cannot be read, or says something impossible."""


def _setting(default: Any, text: str, *choices: str) -> Any:
    """Return a field with what the window shows beside it, and the words it may take."""
    return field(default=default, metadata={"help": text, "choices": choices})


def _table(text: str) -> Any:
    return field(default_factory=dict, metadata={"help": text, "choices": ()})


@dataclass(frozen=True)
class TrainingConfig:
    """A recipe.  Defaults are those of the swift models; ``help`` of each field says what it is.

    The help texts are data, not docstrings, because the window shows them.
    """

    name: str = field(metadata={"help": "Name of the model, such as swift-three"})
    title: str = field(metadata={"help": "What the user reads"})
    architecture: str = field(metadata={"help": "Network, as napari_focusfuse.models names it"})
    network: Mapping[str, Setting] = _table("Settings of the network")
    start: str = _setting("", "Model file to start from; empty: fresh weights")
    blur_model: str = _setting(
        "", "Blur model whose masks a generator takes: a model file, or a shipped model's name"
    )

    data_set: str = _setting("cric", "Sharp images to simulate from; empty: none")
    stacks: int = _setting(320, "Simulated stacks to render")
    stack_px: int = _setting(480, "Side of a simulated stack in pixels")
    degraded: int = _setting(0, "Further stacks, blurred locally by the paper's degradation model")
    simulated_share: float = _setting(0.5, "Share of simulated patches where there are slides too")
    annotated_share: float = _setting(0.1, "Share of hand-annotated pairs (blur models)")
    foreground: float = _setting(0.1, "Least share of cells in a patch cut from a slide")
    overlap: float = _setting(0.25, "Overlap of neighbouring patches cut from a slide")
    patches_per_slide: int = _setting(2000, "Most patches cut from one slide")
    reference_bound_um: float = _setting(20.0, "Largest shift of a reference file, in micrometres")
    cache_gb: float = _setting(20.0, "Most disk space for cut and rendered patches, in gigabytes")

    seed: int = _setting(0, "Decides the split, the patches and the first weights")
    steps: int = _setting(8000, "Updates of the weights")
    batch: int = _setting(4, "Patches in an update, on each device")
    patch: int = _setting(192, "Side of a training patch in pixels")
    learning_rate: float = _setting(4e-4, "Adam's step size at its highest")
    schedule: str = _setting(
        "cosine",
        "How the rate falls: along a cosine, by a factor each epoch, linearly from half-way",
        "cosine",
        "epochs",
        "linear",
        "constant",
    )
    warm_up: int = _setting(200, "Steps over which the rate rises")
    epoch: int = _setting(0, "Patches in an epoch; 0: as many as the data hold side by side")
    epoch_decay: float = _setting(0.8, "Factor of the rate after each epoch")
    beta1: float = _setting(0.9, "Adam's first decay rate")
    clip: float = _setting(1.0, "Longest gradient; longer ones are scaled down.  0: never")
    mean_decay: float = _setting(
        0.998, "The model is a running mean of the trained weights; 0: the weights themselves"
    )

    absolute_weight: float = _setting(1.0, "Weight of the mean absolute error")
    squared_weight: float = _setting(0.0, "Weight of the mean squared error")
    ssim_weight: float = _setting(0.1, "Weight of 1 - SSIM")
    gradient_weight: float = _setting(0.0, "Weight of the mean squared error of the gradients")
    frequency_weight: float = _setting(0.0, "Weight of the mean absolute error of the spectrum")
    overshoot_weight: float = _setting(
        0.0, "Weight of leaving the range of the truth within two pixels around"
    )
    expectation_weight: float = _setting(
        0.01, "Weight of how ill the error that a network expects suits the real one"
    )
    unknown: float = _setting(0.0, "Share of patches whose z step and pixel size are withheld")
    recolour: float = _setting(0.0, "Share of patches whose colour channels change places")
    adversary: str = _setting(
        "", "Discriminator; empty: none", "", "patch", "fusiongan", "pix2pix", "srgan"
    )
    discriminator: Mapping[str, Setting] = _table("Settings of the discriminator")
    adversarial_loss: str = _setting("bce", "What the adversary is judged by", "bce", "lsgan")
    adversarial_weight: float = _setting(0.001, "Weight of the adversarial loss")
    adversary_from: int = _setting(0, "Step at which the adversary joins")
    discriminator_rate: float = _setting(0.5, "Its learning rate over the generator's")
    discriminator_steps: int = _setting(1, "Its updates for each of the generator's")

    validate_every: int = _setting(1000, "Steps between validations")
    log_every: int = _setting(50, "Steps between lines of the log")
    precision: str = _setting(
        "auto",
        "Arithmetic; auto: bf16-mixed where the device is faster in bfloat16, else 32-true",
        "auto",
        "32-true",
        "bf16-mixed",
        "16-mixed",
        "bf16-true",
    )
    devices: int = _setting(1, "Processors or GPUs")
    strategy: str = _setting("auto", "How several devices work together", "auto", "ddp")
    tensorboard: bool = _setting(False, "Also write TensorBoard files")

    def __post_init__(self) -> None:
        positive = ("stack_px", "steps", "batch", "patch", "validate_every", "log_every", "devices")
        for name in (*positive, "discriminator_steps", "patches_per_slide"):
            if getattr(self, name) < 1:
                raise _impossible(name, getattr(self, name), "1 or more")
        for name in ("stacks", "degraded", "warm_up", "epoch", "adversary_from", "seed"):
            if getattr(self, name) < 0:
                raise _impossible(name, getattr(self, name), "0 or more")
        for name in (
            "unknown",
            "recolour",
            "simulated_share",
            "annotated_share",
            "foreground",
            "beta1",
            "mean_decay",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise _impossible(name, getattr(self, name), "between 0 and 1")
        if not 0 <= self.overlap <= 0.75:
            raise _impossible("overlap", self.overlap, "between 0 and 0.75")
        if not 0 < self.learning_rate < 1:
            raise _impossible("learning_rate", self.learning_rate, "above 0 and below 1")
        for name in ("patch", "stack_px"):
            if getattr(self, name) % 16:
                raise _impossible(name, getattr(self, name), "a multiple of 16")
        for each in fields(self):
            choices = each.metadata.get("choices", ())
            if choices and getattr(self, each.name) not in choices:
                words = ", ".join(repr(word) for word in choices)
                raise _impossible(each.name, getattr(self, each.name), f"one of {words}")

    @property
    def planes(self) -> int:
        """Focal planes the network takes."""
        return int(self.network.get("planes", 1))

    @property
    def task(self) -> Task:
        """What the network learns: to return images, to mark blur, or to choose the sharper one."""
        return _TASKS.get(self.architecture, "fuse")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> TrainingConfig:
        """Build a config from a parsed recipe.

        Raises
        ------
        RecipeError
            If a key is unknown, missing or of the wrong type.
        """
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise RecipeError(
                f"The recipe sets {unknown[0]}, which is unknown; see {sorted(known)}."
            )
        missing = [n for n in ("name", "title", "architecture") if n not in table]
        if missing:
            raise RecipeError(f"The recipe does not say its {missing[0]}; add a line for it.")
        values: dict[str, Any] = {k: _typed(k, known[k].type, v) for k, v in table.items()}
        return cls(**values)

    @classmethod
    def read(cls, path: Path, changes: Mapping[str, Any] | None = None) -> TrainingConfig:
        """Read a recipe file; ``changes`` replace its settings, those of a table one by one."""
        table = read_toml(path, "recipe")
        for key, value in (changes or {}).items():
            inner = table.get(key)
            if isinstance(inner, dict) and isinstance(value, Mapping):
                table[key] = {**inner, **value}
            else:
                table[key] = value
        return cls.from_table(table)

    def to_toml(self) -> str:
        """Return the recipe as TOML; :meth:`read` gives an equal config back."""
        values = asdict(self)
        tables = {k: values.pop(k) for k in ("network", "discriminator")}
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        for name, table in tables.items():
            lines += ["", f"[{name}]"] + [f"{key} = {_toml(v)}" for key, v in table.items()]
        return "\n".join(lines) + "\n"


def recipes() -> dict[str, Path]:
    """Return the recipes that come with the package: name to file, in the order of names."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file of at most 1 MB.

    Raises
    ------
    RecipeError
        If it is missing, too large or not TOML.
    """
    try:
        if path.stat().st_size > 1 << 20:
            raise RecipeError(f"The {what} {path} is over 1 MB, which none is; choose another.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"The {what} {path} cannot be read: {error}.") from error


def _toml(value: Setting) -> str:
    # JSON's strings, numbers and booleans are TOML's, but for its escaped surrogates.
    return json.dumps(value, ensure_ascii=False)


def _impossible(name: str, value: object, wanted: str) -> RecipeError:
    return RecipeError(f"{name} = {value} in the recipe must be {wanted}.")


def _typed(key: str, annotation: object, value: object) -> object:
    """Return ``value`` if it has the type a field is annotated with; an int will do for a float."""
    wanted = {"str": str, "int": int, "float": float, "bool": bool}.get(str(annotation), Mapping)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise RecipeError(f"{key} = {value!r} in the recipe must be of type {wanted.__name__}.")
    return value
