"""The training a window watches: a process of its own that the window may start, stop and leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import create_worker

from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_config import RecipeError
from napari_focusfuse.training_run import RunStatus, TrainingRun

from .known_runs import remember
from .own_process import start_apart
from .run_log import RunLog, opened_log
from .train_request import TrainRequest, create_run

State = Literal["none", "creating", "starting", "running", "stopping", "ended"]
Ending = Literal["new", "stopped", "finished", "failed"]

POLL_MS = 400
IDLE_MS = 2000
CATCH_UP_MS = 15
"""Time between reads while a long log is read for the first time."""

REDRAW_SECONDS = 0.25
"""Least time between two redraws, each of which costs about 20 ms."""

GRACE_SECONDS = 15.0
"""After so long the window offers to end a trainer that was asked to stop."""

_CHILDREN: dict[Path, subprocess.Popen[bytes]] = {}
"""Trainers this process started, by folder.  They live on without it; kept so that a dock opened
again knows them, and so that those that end are not left as zombies."""


def launch(run: TrainingRun, device: str) -> subprocess.Popen[bytes]:
    """Start the trainer in a session of its own; what it says goes to the run's text log."""
    run.clear_stop()
    # -P: a file of the current folder must not take the place of a module.
    command = [sys.executable, "-P", "-m", "focusfuse_training", str(run.folder)]
    child = start_apart([*command, "--device", device], run.text_log)
    _CHILDREN[run.folder] = child
    return child


class TrainingJob(QObject):
    """Watches one run at a time.  All methods belong to the window's thread."""

    changed = Signal()
    """Another run, or another state, or the log has grown."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: TrainingRun | None = None
        self.log: RunLog | None = None
        self.state: State = "none"
        self.error = ""
        """Why nothing could be started or opened, in one sentence."""
        self.last_words = ""
        """What a failed run said last."""
        self.device = "auto"
        self._stop_asked: float | None = None
        self._sessions_before = 0
        self._ended_seen = self._news = False
        self._told = 0.0
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.poll)

    # ------------------------------------------------------------------ what the tab asks

    @property
    def active(self) -> bool:
        """Whether a trainer is at work in the run that is watched."""
        return self.state in ("starting", "running", "stopping")

    @property
    def ending(self) -> Ending:
        """How the run that is watched ended, as far as its log says; only where none is active."""
        if self.log is None or not (self.log.event or self._spoken()):
            return "new"
        endings: dict[str, Ending] = {"stopped": "stopped", "finished": "finished"}
        return endings.get(self.log.event, "failed")

    @property
    def overdue(self) -> bool:
        """Whether a trainer was asked to stop and takes long."""
        asked = self._stop_asked
        return asked is not None and time.monotonic() - asked > GRACE_SECONDS

    def start(self, request: TrainRequest) -> None:
        """Make a run, in a worker because it may read images, and train it."""
        self.error, self.state, self.device = "", "creating", request.device
        create_worker(
            create_run,
            request,
            _connect={"returned": self._on_created, "errored": self._on_error},
        )
        self.changed.emit()

    def open(self, folder: Path) -> bool:
        """Watch the run of a folder, whoever trains it; return whether there is one."""
        run = TrainingRun(folder.absolute())
        log = opened_log(run)
        if log is None:
            self.error = f"{folder} holds no run; choose the folder of one."
            self.changed.emit()
            return False
        self.error = self.last_words = ""
        self.run, self.log = run, log
        self._stop_asked, self._sessions_before, self._ended_seen = None, 0, False
        self.state = "none"
        remember(run.folder)
        self.poll()
        return True

    def leave(self) -> None:
        """Watch nothing; a trainer goes on."""
        self._timer.stop()
        self.run = self.log = None
        self.state, self.error = "none", ""
        self.changed.emit()

    def resume(self) -> None:
        """Go on with the run that is watched."""
        if self.run is None or self.log is None or self.active:
            return
        self.error = self.last_words = ""
        self._stop_asked, self._sessions_before = None, self.log.sessions
        try:
            launch(self.run, self.device)
        except OSError as error:
            self.error = f"Training could not be started: {error}."
        else:
            self.state = "starting"
        self.poll()

    def stop(self) -> None:
        """Ask the trainer to end with the step in hand; its weights are kept."""
        if self.run is not None and self.active:
            self.run.request_stop()
            self._stop_asked, self.state = time.monotonic(), "stopping"
            self.changed.emit()

    def end_now(self) -> None:
        """End a trainer that does not listen; what its last checkpoint holds is kept."""
        pid = None if self.run is None else self._pid(self.run)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)

    # ------------------------------------------------------------------ what happens

    def _on_created(self, run: TrainingRun) -> None:
        if self.open(run.folder):
            self.resume()

    def _on_error(self, error: Exception) -> None:
        known = isinstance(error, FocusFuseError)
        self.error = str(error) if known else f"{type(error).__name__}: {error}"
        self.state = "none" if self.run is None else "ended"
        self.changed.emit()

    def poll(self) -> None:
        """Look into the folder; reads only what is new there."""
        if self.run is None or self.log is None:
            return
        grown = self.log.read_on()
        before, self.state = self.state, self._look(self.run)
        idle = self.state == "ended"
        # A run that ended may be taken up by somebody else.
        self._timer.start(CATCH_UP_MS if grown else IDLE_MS if idle else POLL_MS)
        if idle and not grown and not self._ended_seen:
            self._ended_seen = True
            if self.ending == "failed":
                self._ask_why(self.run)
            self.changed.emit()
        self._ended_seen = self._ended_seen and idle
        self._news = self._news or grown or self.state == "stopping"
        since = time.monotonic() - self._told
        if before != self.state or (self._news and since > REDRAW_SECONDS):
            self._news, self._told = False, time.monotonic()
            self.changed.emit()

    def _look(self, run: TrainingRun) -> State:
        if self._pid(run) is None:
            self._stop_asked = None
            return "ended"
        assert self.log is not None
        if self._stop_asked is not None:
            return "stopping"
        begun = self.log.sessions > self._sessions_before
        return "running" if begun else "starting"

    def _pid(self, run: TrainingRun) -> int | None:
        """Return the process that trains, or None; the first seconds it has not taken its lock."""
        child = _CHILDREN.get(run.folder)
        if child is not None:
            if child.poll() is None:
                return child.pid
            del _CHILDREN[run.folder]
        return run.owner()

    def _spoken(self) -> bool:
        return self.run is not None and self.run.text_log.exists()

    def _ask_why(self, run: TrainingRun) -> None:
        create_worker(
            _status,
            run,
            _connect={"returned": self._on_status, "errored": self._on_error},
        )

    def _on_status(self, found: tuple[TrainingRun, RunStatus]) -> None:
        run, status = found
        if run == self.run and self.state == "ended":
            self.last_words = status.message
            self.changed.emit()


def _status(run: TrainingRun) -> tuple[TrainingRun, RunStatus]:
    try:
        return run, run.status()
    except RecipeError as error:
        return run, RunStatus("failed", message=str(error))
