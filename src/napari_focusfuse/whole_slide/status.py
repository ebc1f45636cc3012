"""How a run stands: what it yields, and the file from which other processes learn it.

Beside an output ``OUT`` lie, while it is being made, ``OUT.status`` (one JSON object, replaced as a
whole about twice a second: ``state``, ``stage``, ``done``, ``total``, ``empty``, ``seconds_left``,
``error``), and, once somebody asks the run to end, ``OUT.stop``.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from napari_focusfuse.process_lock import lock_owner
from napari_focusfuse.slide import FocusFuseError, Region

Stage = Literal["preparing", "fusing", "writing"]
State = Literal["running", "stopped", "failed", "finished"]

_WRITE_SECONDS = 0.5


class StoppedError(FocusFuseError):
    """The run was asked to end before it was done."""

    exit_code = 130


@dataclass(frozen=True)
class SlideProgress:
    """How far a run is."""

    stage: Stage
    done: int = 0
    """Finished blocks, those of earlier runs included."""
    total: int = 0
    resumed: int = 0
    """Blocks that earlier runs had finished."""
    failed: int = 0
    """Blocks that could not be fused."""
    tiles: int = 0
    """Tiles of the whole slide."""
    empty: int = 0
    """How many of them are empty glass and are not fused."""
    seconds_left: float | None = None
    """None while unknown."""
    block: Region | None = None
    """The block that was just finished, in pixels of the level."""


@dataclass(frozen=True)
class SlideStatus:
    """What a status file says."""

    state: State
    progress: SlideProgress
    error: str = ""
    """Why it failed, in one sentence."""


class StatusFile:
    """Writes the status of a run; what the disk refuses here is left out, for it is no result."""

    def __init__(self, output: Path) -> None:
        self._path = status_path(output)
        self._written = 0.0
        self._progress = SlideProgress("preparing")

    def tell(self, progress: SlideProgress) -> None:
        """Note progress."""
        self._progress = progress
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self._write("running", "")

    def end(self, state: State, error: str = "") -> None:
        """Note how the run ended; a finished one needs no status any more."""
        if state == "finished":
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        else:
            self._write(state, error)

    def _write(self, state: State, error: str) -> None:
        self._written = time.monotonic()
        values = {"state": state, "error": error, "pid": os.getpid(), **asdict(self._progress)}
        partial = self._path.with_name(f"{self._path.name}.partial")
        with suppress(OSError):
            partial.write_text(json.dumps(values), encoding="utf-8")
            os.replace(partial, self._path)
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def read_status(output: str | Path) -> SlideStatus | None:
    """Return how the run that makes an output stands, or None if none was ever begun.

    A run that said it was running and whose process is gone has failed.
    """
    path = Path(output)
    try:
        values = json.loads(status_path(path).read_text(encoding="utf-8"))
        state, error = values.pop("state"), values.pop("error")
        del values["pid"]
        block = values.pop("block")
        progress = SlideProgress(**values, block=None if block is None else Region(**block))
    except (OSError, ValueError, KeyError, TypeError):
        return SlideStatus("finished", SlideProgress("writing")) if path.exists() else None
    if state == "running" and lock_owner(lock_path(path)) is None:
        return SlideStatus("failed", progress, "Its process ended; run again to go on.")
    return SlideStatus(state, progress, error)


def request_stop(output: str | Path) -> None:
    """Ask the run that makes an output to end with the tile in hand; what is done is kept."""
    stop_path(Path(output)).touch()


def clear_stop(output: str | Path) -> None:
    """Take back an earlier request; whoever starts a run does so before."""
    stop_path(Path(output)).unlink(missing_ok=True)


def status_path(output: Path) -> Path:
    """Return where the status of an output lies."""
    return output.with_name(f"{output.name}.status")


def stop_path(output: Path) -> Path:
    """Return the file whose presence asks a run to end."""
    return output.with_name(f"{output.name}.stop")


def lock_path(output: Path) -> Path:
    """Return the lock of an output."""
    return output.with_name(f"{output.name}.lock")


def report_path(output: Path) -> Path:
    """Return where it is told what a finished output was made of."""
    return output.with_name(f"{output.name}.json")


def read_report(output: Path) -> dict[str, Any] | None:
    """Return the report beside a finished output, or None if there is none."""
    try:
        report = json.loads(report_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
