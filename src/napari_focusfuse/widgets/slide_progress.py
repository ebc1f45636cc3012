"""How the fusion of a whole slide is getting on, and what it gave."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_focusfuse.whole_slide.status import SlideProgress

from .fuse_request import duration
from .message import Message
from .slide_run import SlideRun

STATES = {
    "starting": "starting …",
    "stopping": "ends with the block in hand …",
    "stopped": "cancelled; what is done is kept",
    "failed": "failed; what is done is kept",
    "finished": "done",
}
STAGES = {"preparing": "looking for cells …", "writing": "writing the files …"}


class SlideProgressView(QWidget):
    """Shows a :class:`SlideRun`; holds no rules of its own."""

    result_wanted = Signal(list)
    """Files to be opened in the viewer."""

    def __init__(self, run: SlideRun) -> None:
        super().__init__()
        self._run = run
        self.title = QLabel()
        self.title.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setMinimumHeight(20)
        self.status = Message("slide status")
        self.button = QPushButton("Cancel")
        self.button.setToolTip("What is done is kept; Resume goes on from there")
        self.open_button = QPushButton("Open result")
        self.open_button.setToolTip("Show the fused slide, and its maps, over the slide")
        row = QHBoxLayout()
        row.addWidget(self.button)
        row.addWidget(self.open_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for widget in (self.title, self.bar, self.status):
            layout.addWidget(widget)
        layout.addLayout(row)
        layout.addStretch()
        self.button.clicked.connect(self._cancel_or_resume)
        self.open_button.clicked.connect(self._open)

    def show_run(self) -> None:
        """Show how it stands."""
        run = self._run
        if run.output is None:
            return
        job = run.job
        source = "" if job is None else f"{job.slide.name} → "
        self.title.setText(f"{source}{run.output.name}")
        self.title.setToolTip(str(run.output))
        progress = SlideProgress("preparing") if run.status is None else run.status.progress
        self.bar.setMaximum(max(progress.total, 1))
        self.bar.setValue(progress.total if run.state == "finished" else progress.done)
        self.bar.setFormat(bar_text(run, progress))
        self._say(run, progress)
        self.button.setText("Cancel" if run.active else "Resume")
        can_resume = run.job is not None and run.state in ("stopped", "failed")
        self.button.setEnabled(run.state in ("starting", "running") or can_resume)
        self.button.setVisible(run.state != "finished")
        self.open_button.setVisible(run.state == "finished")

    def _say(self, run: SlideRun, progress: SlideProgress) -> None:
        said = describe_progress(progress)
        if run.error:
            where = (
                "" if run.log is None or not run.log.exists() else f"All it said is in {run.log}."
            )
            self.status.say(said, run.error, *([where] if where else []))
        else:
            self.status.say(said)

    def _cancel_or_resume(self) -> None:
        if self._run.active:
            self._run.stop()
        else:
            self._run.resume()

    def _open(self) -> None:
        run = self._run
        if run.output is not None:
            self.result_wanted.emit(outputs_there(run))


def outputs_there(run: SlideRun) -> list[Path]:
    """Return the files a run gave, the picture first."""
    assert run.output is not None
    outputs = [run.output] if run.job is None else list(run.job.outputs.values())
    return [output for output in outputs if output.exists()]


def bar_text(run: SlideRun, progress: SlideProgress) -> str:
    """Return what is written on the bar."""
    share = f"{100 * progress.done // max(progress.total, 1)} %"
    if run.state == "running":
        if progress.stage in STAGES:
            return STAGES[progress.stage]
        left = progress.seconds_left
        return share if left is None else f"{share} · about {duration(left)} left"
    if run.state == "finished":
        return "done"
    return f"{share} · {STATES.get(run.state, '')}" if run.state != "none" else ""


def describe_progress(progress: SlideProgress) -> str:
    """Return in one line what is done; empty before anything is known."""
    if not progress.total:
        return ""
    parts = [f"{progress.done:,} of {progress.total:,} blocks"]
    if progress.resumed:
        parts.append(f"{progress.resumed:,} of them from before")
    if progress.empty:
        parts.append(f"{100 * progress.empty / max(progress.tiles, 1):.0f} % is empty glass")
    if progress.failed:
        parts.append(f"{progress.failed:,} could not be fused")
    return " · ".join(parts)
