"""A run as it goes: how far, how good, how it looks; stop, resume, use."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from .fuse_request import duration
from .message import Message
from .run_log import RunLog, describe_run
from .train_plots import TrainPlots
from .training_job import TrainingJob

COLUMNS = {
    "fuse": ("focus layer", "output", "truth"),
    "segment": ("focus layer", "mask", "true mask"),
    "choose": ("one", "other", "choice"),
}


class TrainProgress(QWidget):
    """Shows the job's run.

    Parameters
    ----------
    job
        What runs.
    """

    model_wanted = Signal(object)
    """The user wants to use the model in this file."""
    sheet_wanted = Signal(object, str)
    """The user wants this (Y, X, 3) uint8 sheet as a layer of this name."""

    def __init__(self, job: TrainingJob) -> None:
        super().__init__()
        self._job = job
        self._follow = True
        self._sheet: QPixmap | None = None
        self._shown: object = None
        self._build()
        self.stop_button.clicked.connect(self._stop_or_resume)
        self.use_button.clicked.connect(self._use)
        self.slider.valueChanged.connect(self._on_slider)
        self.layer_button.clicked.connect(self._show_as_layer)

    # ------------------------------------------------------------------ looks

    def _build(self) -> None:
        self.title = QElidingLabel()
        self.title.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.bar = QProgressBar()
        self.bar.setFixedHeight(20)
        self.status = Message("training")
        self.stop_button = QPushButton("Stop")
        self.use_button = QPushButton("Use this model")
        self.use_button.setToolTip("Fuse with the best model so far: it joins the list of methods")
        buttons = QHBoxLayout()
        for button in (self.stop_button, self.use_button):
            button.setMinimumHeight(28)
            buttons.addWidget(button)
        self.plots = TrainPlots()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (self.title, self.bar, self.status):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        layout.addWidget(self.plots)
        layout.addLayout(self._which_picture())
        layout.addLayout(self._heads())
        layout.addWidget(self._picture())
        layout.addStretch()

    def _heads(self) -> QHBoxLayout:
        self.heads = [QLabel() for _ in range(3)]
        row = QHBoxLayout()
        row.setSpacing(0)
        for head in self.heads:
            head.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            row.addWidget(head, 1)
        return row

    def _picture(self) -> QLabel:
        self.picture = QLabel("The first pictures come with the first validation.")
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setWordWrap(True)
        self.picture.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        return self.picture

    def _which_picture(self) -> QHBoxLayout:
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Earlier pictures of the same patches")
        self.slider.setMaximum(0)
        self.step_label = QLabel()
        self.layer_button = QPushButton("Show as layer")
        row = QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.step_label)
        row.addWidget(self.layer_button)
        return row

    def resizeEvent(self, event: Any) -> None:
        """Fit the picture to the dock's width."""
        super().resizeEvent(event)
        self._fit()

    # ------------------------------------------------------------------ what is shown

    def show_job(self) -> None:
        """Show the run as it stands."""
        job, log = self._job, self._job.log
        if job.run is None or log is None:
            return
        if self._shown is not log:
            self._shown, self._follow, self._sheet = log, True, None
            for head, text in zip(self.heads, COLUMNS[log.config.task], strict=True):
                head.setText(text)
        self.title.setText(f"{log.config.title} · {job.run.folder}")
        self.title.setToolTip(str(job.run.folder))
        self.bar.setMaximum(max(1, log.steps))
        self.bar.setValue(min(log.step, log.steps))
        self.bar.setFormat(_bar_text(job, log))
        self._say(job, log)
        self.stop_button.setText(_button_text(job))
        done = job.state == "ended" and job.ending == "finished"
        self.stop_button.setEnabled(not done and (job.state != "stopping" or job.overdue))
        self.use_button.setEnabled(bool(log.score.values))
        self.plots.show_log(log)
        self._offer_sheets(log)

    def _say(self, job: TrainingJob, log: RunLog) -> None:
        if job.error:
            self.status.warn(job.error)
        elif job.state == "ended" and job.ending == "failed":
            where = f"All it said is in {log.run.text_log}."
            self.status.say(describe_run(log), f"Training failed: {job.last_words}", where)
        elif log.event in ("bad loss", "smaller batch"):
            self.status.say(describe_run(log), log.text)
        else:
            self.status.say(describe_run(log))

    def _offer_sheets(self, log: RunLog) -> None:
        count = len(log.preview_steps())
        self.slider.blockSignals(True)
        self.slider.setMaximum(max(0, count - 1))
        if self._follow:
            self.slider.setValue(count - 1)
        self.slider.blockSignals(False)
        self.slider.setEnabled(count > 1)
        self.layer_button.setEnabled(count > 0)
        self._load_sheet()

    def _on_slider(self, value: int) -> None:
        self._follow = value == self.slider.maximum()
        self._load_sheet()

    def _load_sheet(self) -> None:
        step = self._step()
        text = "" if step is None else f"step {step:,}"
        if self._sheet is not None and text == self.step_label.text():
            return
        self.step_label.setText(text)
        self._sheet = None
        if step is not None and self._job.log is not None:
            sheet = QPixmap(str(self._job.log.preview(step)))
            self._sheet = None if sheet.isNull() else sheet
        self._fit()

    def _step(self) -> int | None:
        steps = [] if self._job.log is None else self._job.log.preview_steps()
        return steps[min(self.slider.value(), len(steps) - 1)] if steps else None

    def _fit(self) -> None:
        for head in self.heads:
            head.setVisible(self._sheet is not None)
        if self._sheet is None:
            self.picture.setText("The first pictures come with the first validation.")
            self.picture.setFixedHeight(40)
            return
        width = min(max(self.width(), 60), self._sheet.width())
        smooth = Qt.TransformationMode.SmoothTransformation
        fitted = self._sheet.scaledToWidth(width, smooth)
        self.picture.setPixmap(fitted)
        self.picture.setFixedHeight(fitted.height())

    # ------------------------------------------------------------------ what is asked for

    def _stop_or_resume(self) -> None:
        if self._job.state == "stopping":
            self._job.end_now()
        elif self._job.active:
            self._job.stop()
        else:
            self._job.resume()

    def _use(self) -> None:
        run = self._job.run
        if run is not None:
            self.model_wanted.emit(run.best if run.best.exists() else run.last)

    def _show_as_layer(self) -> None:
        step, log = self._step(), self._job.log
        if step is None or log is None:
            return
        with Image.open(log.preview(step)) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        self.sheet_wanted.emit(pixels, f"{log.config.title} · step {step:,}")


def _bar_text(job: TrainingJob, log: RunLog) -> str:
    share = f"{100 * log.step // max(1, log.steps)} %"
    left = log.seconds_left()
    if job.state == "ended":
        return f"{share} · {job.ending}"
    if job.state == "running" and left is not None:
        return f"{share} · about {duration(left)} left"
    words = {"starting": "preparing …", "stopping": "stopping …", "running": "running"}
    return f"{share} · {words.get(job.state, '')}"


def _button_text(job: TrainingJob) -> str:
    if job.state == "stopping":
        return "End now" if job.overdue else "Stopping …"
    if job.active:
        return "Stop"
    return "Start" if job.ending == "new" else "Resume"
