"""The fusion of a whole slide that a window watches: a process of its own, beside its output."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Literal

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import create_worker

from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.whole_slide.job import SlideJob
from napari_focusfuse.whole_slide.preview import FinishedBlocks, FinishedPixels
from napari_focusfuse.whole_slide.status import (
    SlideStatus,
    clear_stop,
    read_status,
    request_stop,
)

from .known_runs import remember_output
from .own_process import start_apart
from .slide_request import SlideRequest, command

State = Literal["none", "starting", "running", "stopping", "stopped", "failed", "finished"]

POLL_MS = 400
IDLE_MS = 2000

_CHILDREN: dict[Path, subprocess.Popen[bytes]] = {}
"""Processes this one started, by output; kept so that a dock opened again knows them, and so that
those that end are not left as zombies."""


class SlideRun(QObject):
    """Watches one output at a time.  All methods belong to the window's thread."""

    changed = Signal()
    """Another output, another state, or more blocks."""
    blocks_finished = Signal(list)
    """:class:`FinishedPixels` that were not shown before."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.output: Path | None = None
        self.job: SlideJob | None = None
        """What is being fused; None where its work is no longer there."""
        self.status: SlideStatus | None = None
        self.state: State = "none"
        self.error = ""
        """Why nothing could be started, or why the run failed, in one sentence."""
        self._blocks: FinishedBlocks | None = None
        self._reading = False
        self._shown = 0
        self._stop_asked: float | None = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.poll)

    @property
    def active(self) -> bool:
        """Whether a process is at work on the output that is watched."""
        return self.state in ("starting", "running", "stopping")

    @property
    def log(self) -> Path | None:
        """Where the process says what it has to say."""
        return None if self.output is None else log_path(self.output)

    # ------------------------------------------------------------------ what the tab asks

    def start(self, request: SlideRequest) -> None:
        """Fuse a whole slide in a process of its own, and watch it."""
        try:
            job = request.job()
        except FocusFuseError as error:
            self.error = str(error)
            self.changed.emit()
            return
        self._watch(job.first_output, job)
        self.resume()

    def open(self, output: Path) -> bool:
        """Watch an output, whoever makes it; return whether there is anything to see."""
        output = output.absolute()
        if read_status(output) is None and output not in _CHILDREN:
            self.error = f"{output} was not fused by FocusFuse; choose the output of a fusion."
            self.changed.emit()
            return False
        self._watch(output, FinishedBlocks(output).job())
        self.poll()
        return True

    def leave(self) -> None:
        """Watch nothing; the process goes on."""
        self._timer.stop()
        self.output = self.job = self.status = self._blocks = None
        self.state, self.error = "none", ""
        self.changed.emit()

    def resume(self) -> None:
        """Start the process, which goes on with what is done already."""
        if self.output is None or self.job is None or self.active:
            return
        self.error, self._stop_asked = "", None
        try:
            clear_stop(self.output)
            _CHILDREN[self.output] = start_apart(command(self.job), log_path(self.output))
        except OSError as error:
            self.error, self.state = f"The fusion could not be started: {error}.", "failed"
        self.poll()

    def stop(self) -> None:
        """Ask the process to end with the block in hand; what is done is kept."""
        if self.output is not None and self.active:
            request_stop(self.output)
            self._stop_asked, self.state = time.monotonic(), "stopping"
            self.changed.emit()

    # ------------------------------------------------------------------ what happens

    def _watch(self, output: Path, job: SlideJob | None) -> None:
        self.output, self.job = output, job
        self.status, self.state, self.error = None, "none", ""
        self._blocks, self._shown, self._stop_asked = FinishedBlocks(output), 0, None
        remember_output(output)

    def poll(self) -> None:
        """Look at the files beside the output."""
        if self.output is None:
            return
        before = self.state, self.status
        self.status = read_status(self.output)
        self.state = self._look(self.output)
        self._timer.start(POLL_MS if self.active else IDLE_MS)
        done = 0 if self.status is None else self.status.progress.done
        if done != self._shown and self._blocks is not None and not self._reading:
            self._reading, self._shown = True, done
            create_worker(
                self._blocks.new,
                _connect={"returned": self._on_blocks, "errored": self._on_unreadable},
            )
        if before != (self.state, self.status):
            self.changed.emit()

    def _look(self, output: Path) -> State:
        status = self.status
        if self._alive(output):
            if self._stop_asked is not None:
                return "stopping"
            return "running" if status is not None and status.state == "running" else "starting"
        self._stop_asked = None
        if status is None:
            self.error = self.error or _last_words(log_path(output))
            return "failed"
        self.error = status.error if status.state == "failed" else ""
        if status.state == "finished":
            log_path(output).unlink(missing_ok=True)
        return status.state

    def _alive(self, output: Path) -> bool:
        child = _CHILDREN.get(output)
        if child is not None:
            if child.poll() is None:
                return True
            del _CHILDREN[output]
        return self.status is not None and self.status.state == "running"

    def _on_blocks(self, found: list[FinishedPixels]) -> None:
        self._reading = False
        if found:
            self.blocks_finished.emit(found)

    def _on_unreadable(self, error: Exception) -> None:
        # The picture of finished blocks is a comfort; the run does not depend on it.
        self._reading = False


def log_path(output: Path) -> Path:
    """Return the file into which the process of an output speaks."""
    return output.with_name(f"{output.name}.log")


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "It ended unasked.")
