"""A training run is a folder; the folder is the whole interface between window, shell and trainer.

``config.toml`` (the recipe as it was run), ``log.jsonl`` (one record a line), ``last.safetensors``
and ``best.safetensors`` (models with cards), ``state.safetensors`` (what resuming needs), ``stop``
(its presence asks the trainer to end).  Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .slide import FocusFuseError

Setting = str | int | float | bool


class RecipeError(FocusFuseError, ValueError):
    """A training recipe cannot be read, or says something impossible."""


@dataclass(frozen=True)
class TrainingConfig:
    """A recipe: everything that decides what a run trains.  Defaults are the swift recipe."""

    name: str
    """The model's name, such as ``"swift-three"``."""
    title: str
    """What the user reads."""
    architecture: str
    """A name that :func:`napari_focusfuse.models.build` knows."""
    network: Mapping[str, Setting] = field(default_factory=dict)
    """The architecture's config."""
    start: str = ""
    """A model file whose weights to start from; empty: fresh weights."""
    data_set: str = "cric"
    """Where the sharp images come from; see :mod:`napari_focusfuse.benchmark_definition`."""
    stacks: int = 320
    """Simulated stacks to render."""
    degraded: int = 0
    """Further stacks blurred locally by the paper's degradation model."""
    seed: int = 0
    steps: int = 8000
    batch: int = 4
    patch: int = 192
    """Side of a training patch in pixels."""
    learning_rate: float = 4e-4
    """Adam's; rises over the first 200 steps, then falls to zero along a cosine."""
    mean_decay: float = 0.998
    """The shipped weights are a running mean of the trained ones with this decay per step."""
    ssim_weight: float = 0.1
    """Weight of 1 - SSIM beside the mean absolute error."""
    validate_every: int = 1000
    precision: str = "bf16-mixed"
    """Lightning Fabric's name of the arithmetic."""

    def __post_init__(self) -> None:
        for name in ("stacks", "steps", "batch", "patch", "validate_every"):
            if getattr(self, name) < 1:
                raise RecipeError(
                    f"{name} = {getattr(self, name)} in the recipe must be 1 or more."
                )
        if self.patch % 16:
            raise RecipeError(f"patch = {self.patch} in the recipe must be a multiple of 16.")

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
        """Read a recipe file; ``changes`` replace its settings."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"The recipe {path} cannot be read: {error}.") from error
        return cls.from_table(table | dict(changes or {}))

    def to_toml(self) -> str:
        """Return the recipe as TOML; :meth:`read` gives an equal config back."""
        table = asdict(self)
        network = table.pop("network")
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        lines += ["", "[network]"] + [f"{key} = {json.dumps(v)}" for key, v in network.items()]
        return "\n".join(lines) + "\n"


def _typed(key: str, annotation: object, value: object) -> object:
    """Return ``value`` if it has the type a field is annotated with; an int will do for a float."""
    wanted = {"str": str, "int": int, "float": float}.get(str(annotation), Mapping)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise RecipeError(f"{key} = {value!r} in the recipe must be of type {wanted.__name__}.")
    return value


@dataclass(frozen=True)
class TrainingRun:
    """The folder of one run."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The recipe as it was run."""
        return self.folder / "config.toml"

    @property
    def last(self) -> Path:
        """The model after the last finished validation."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The model of the best validation."""
        return self.folder / "best.safetensors"

    @property
    def state(self) -> Path:
        """Optimiser and counters: what resuming needs."""
        return self.folder / "state.safetensors"

    def create(self, config: TrainingConfig) -> None:
        """Make the folder and write the recipe; an existing run must have the same recipe.

        Raises
        ------
        RecipeError
            If the folder holds a run of another recipe.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.config_file.exists():
            if TrainingConfig.read(self.config_file) != config:
                raise RecipeError(
                    f"{self.folder} holds a run of another recipe; choose another folder."
                )
            return
        partial = self.config_file.with_suffix(".partial")
        partial.write_text(config.to_toml(), encoding="utf-8")
        os.replace(partial, self.config_file)

    def stop_requested(self) -> bool:
        """Tell whether somebody asked the trainer to end."""
        return (self.folder / "stop").exists()

    def log(self, record: Mapping[str, object]) -> None:
        """Append one record to the log."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the log's records; a half-written last line is left out."""
        path = self.folder / "log.jsonl"
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)
