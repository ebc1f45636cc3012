"""A training run is a folder; the folder is the whole interface between window, shell and trainer.

``config.toml`` (the recipe as it was run), ``data.toml`` (where the pictures come from),
``split.json`` (which of them train, validate and test), ``log.jsonl`` (one record a line),
``train.log`` (text), ``last.safetensors`` and ``best.safetensors`` (models with cards),
``state.safetensors`` (what resuming needs) and its predecessor, ``previews/``, ``lock`` (who
trains), ``stop`` (its presence asks the trainer to end; taken away by whoever starts the next one).
Nothing here needs torch.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .process_lock import is_alive, started
from .slide import FocusFuseError
from .training_config import RecipeError, TrainingConfig, read_toml

State = Literal["new", "running", "stopped", "finished", "failed"]
_ENDS: dict[str, State] = {"stopped": "stopped", "finished": "finished", "failed": "failed"}


class RunError(FocusFuseError, OSError):
    """A run's folder cannot be used: another process trains in it, or the disk refuses."""

    exit_code = 5


@dataclass(frozen=True)
class SlideSource:
    """One slide to learn from."""

    path: Path
    reference: str = "extended"
    """``"extended"``: its own extended focus; ``"fusion:METHOD"``: the fusion of all its planes;
    else the path of another slide or image file."""
    part: str = ""
    """``"train"``, ``"validation"`` or ``"test"``; empty: drawn by the recipe's seed."""

    def __post_init__(self) -> None:
        if self.part not in ("", "train", "validation", "test"):
            raise RecipeError(
                f"The part {self.part!r} of {self.path} must be train, validation or test."
            )


@dataclass(frozen=True)
class TrainingData:
    """Where a run's pictures come from."""

    images: Path | None = None
    """Folder of the data set's sharp images."""
    slides: tuple[SlideSource, ...] = ()
    annotated: Path | None = None
    """Folder of images with hand-drawn blur masks."""
    cache: Path | None = None
    """Folder of cut and rendered patches, shared between runs; None: in the run."""

    @classmethod
    def read(cls, path: Path) -> TrainingData:
        """Read what :meth:`to_toml` wrote; paths are relative to the file.

        Raises
        ------
        RecipeError
            If the file cannot be read, or says something unknown.
        """
        table = read_toml(path, "list of training data")
        unknown = sorted(set(table) - {"images", "annotated", "cache", "slides"})
        if unknown:
            raise RecipeError(f"{path} sets {unknown[0]}, which is unknown; remove it.")
        slides = table.get("slides", [])
        try:
            sources = tuple(
                SlideSource(**{**entry, "path": path.parent / entry["path"]}) for entry in slides
            )
            folders = {
                key: path.parent / table[key]
                for key in ("images", "annotated", "cache")
                if key in table
            }
        except (TypeError, KeyError) as error:
            raise RecipeError(
                f"{path} describes a slide wrongly ({error}); give path, reference and part."
            ) from None
        return cls(slides=sources, **folders)

    def to_toml(self) -> str:
        """Return the description as TOML, with absolute paths."""
        folders = {"images": self.images, "annotated": self.annotated, "cache": self.cache}
        lines = [f"{key} = {_quoted(path)}" for key, path in folders.items() if path is not None]
        for slide in self.slides:
            lines += ["", "[[slides]]", f"path = {_quoted(slide.path)}"]
            lines += [f"reference = {json.dumps(slide.reference, ensure_ascii=False)}"]
            lines += [f"part = {json.dumps(slide.part)}"]
        return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    return json.dumps(str(path.absolute()), ensure_ascii=False)


@dataclass(frozen=True)
class RunStatus:
    """How a run stands."""

    state: State
    step: int = 0
    steps: int = 0
    message: str = ""
    """Why it failed, or the last thing it said."""


@dataclass(frozen=True)
class TrainingRun:
    """The folder of one run."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The recipe as it was run."""
        return self.folder / "config.toml"

    @property
    def data_file(self) -> Path:
        """Where the pictures come from."""
        return self.folder / "data.toml"

    @property
    def split_file(self) -> Path:
        """Which slides and images train, validate and test."""
        return self.folder / "split.json"

    @property
    def log_file(self) -> Path:
        """One JSON record a line."""
        return self.folder / "log.jsonl"

    @property
    def text_log(self) -> Path:
        """What the trainer said, and its last words."""
        return self.folder / "train.log"

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
        """Weights, optimisers and counters: what resuming needs."""
        return self.folder / "state.safetensors"

    @property
    def previous_state(self) -> Path:
        """The state before that, should the newest be damaged."""
        return self.folder / "state.previous.safetensors"

    @property
    def previews(self) -> Path:
        """Sheets of validation patches, one PNG a validation."""
        return self.folder / "previews"

    @property
    def lock_file(self) -> Path:
        """Who trains here."""
        return self.folder / "lock"

    @property
    def stop_file(self) -> Path:
        """Its presence asks the trainer to end."""
        return self.folder / "stop"

    def create(self, config: TrainingConfig, data: TrainingData | None = None) -> None:
        """Make the folder and write recipe and data; an existing run must have the same recipe.

        Raises
        ------
        RecipeError
            If the folder holds a run of another recipe.
        RunError
            If it cannot be written.
        """
        if self.config_file.exists():
            if self.config() != config:
                raise RecipeError(
                    f"{self.folder} holds a run of another recipe; choose another folder."
                )
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self.data_file, (data or TrainingData()).to_toml())
            self._write(self.config_file, config.to_toml())
        except OSError as error:
            raise RunError(
                f"The run {self.folder} cannot be written ({error.strerror}); choose another "
                "folder."
            ) from None

    def config(self) -> TrainingConfig:
        """Return the run's recipe.

        Raises
        ------
        RecipeError
            If the folder holds no run.
        """
        return TrainingConfig.read(self.config_file)

    def data(self) -> TrainingData:
        """Return where the run's pictures come from."""
        return TrainingData.read(self.data_file)

    def request_stop(self) -> None:
        """Ask the trainer to end after the step in hand, even one that has yet to make the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()

    def clear_stop(self) -> None:
        """Take back requests of earlier days; whoever starts a trainer does so before.

        The trainer itself must not: the request may be for it.
        """
        if self.stop_requested():
            self.stop_file.unlink(missing_ok=True)

    def stop_requested(self) -> bool:
        """Tell whether somebody asked the trainer to end."""
        return self.stop_file.exists()

    def log(self, record: Mapping[str, object]) -> None:
        """Append one record to the log, in one write, so that no reader sees half of it."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the log's records; a half-written last line is left out, a torn one skipped."""
        if self.log_file.exists():
            with self.log_file.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    record = parse_record(line)
                    if record is not None:
                        yield record

    def status(self) -> RunStatus:
        """Return how the run stands, from what lies in the folder."""
        if not self.config_file.exists():
            return RunStatus("new")
        steps = self.config().steps
        step, ending, message = 0, "", ""
        for record in self.records():
            step = int(record.get("step", step))
            if "event" in record:
                ending, message = record["event"], str(record.get("text", ""))
        if self.owner() is not None:
            return RunStatus("running", step, steps, message)
        if not ending:
            return RunStatus("new", 0, steps)
        if ending in _ENDS:
            return RunStatus(_ENDS[ending], step, steps, message)
        # It began and never said how it ended.
        return RunStatus("failed", step, steps, self._last_words())

    def _last_words(self) -> str:
        if self.text_log.exists():
            with self.text_log.open("rb") as file:
                file.seek(max(0, self.text_log.stat().st_size - 4096))
                lines = file.read().decode("utf-8", "replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return said[-1]
        return "It ended without a word."

    # ------------------------------------------------------------------ who trains here

    def acquire(self) -> None:
        """Take the folder for this process; a lock whose process is gone is taken over.

        Raises
        ------
        RunError
            If another process trains here, or the folder cannot be written.
        """
        owner = self.owner()
        if owner is not None and owner != os.getpid():
            raise RunError(
                f"{self.folder} is being trained by process {owner}; stop that one, or choose "
                "another folder."
            )
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "start": started(os.getpid())}
        try:
            self._write(self.lock_file, json.dumps(mine))
        except OSError as error:
            raise RunError(
                f"The run {self.folder} cannot be written ({error.strerror}); check the disk."
            ) from None

    def release(self) -> None:
        """Give the folder back."""
        self.lock_file.unlink(missing_ok=True)

    def owner(self) -> int | None:
        """Return the process that trains here, or None.

        A lock from another machine counts as alive: from here nobody can tell.
        """
        try:
            lock = json.loads(self.lock_file.read_text(encoding="utf-8"))
            pid, host, start = int(lock["pid"]), lock["host"], lock["start"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if host != socket.gethostname():
            return pid
        return pid if is_alive(pid) and started(pid) == start else None

    def _write(self, path: Path, text: str) -> None:
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


def parse_record(line: str) -> dict[str, Any] | None:
    """Return one line of the log as a record, or None if it is not whole."""
    if not line.endswith("\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
