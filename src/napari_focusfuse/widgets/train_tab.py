"""The Train tab: a form for a new training, and the trainings there are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from napari_focusfuse.model_card import read_card
from napari_focusfuse.slide import FocusFuseError, UInt8Image

from ._compat import closed_by_user
from .fuse_request import duration
from .fusion_job import FusionJob
from .header import Header
from .known_runs import known_runs, let_go_on, may_go_on
from .message import Message
from .train_form import TrainForm
from .train_progress import TrainProgress
from .train_request import BLUR_ARCHITECTURES, TrainRequest, offered_recipes
from .training_job import TrainingJob
from .turns import in_turns

NEW = "a new training"


class TrainTab(QWidget):
    """Starts trainings and watches them; they need neither this tab nor this window.

    Its contents are made when it is shown for the first time, piece by piece: all at once would
    block the window for too long.

    Parameters
    ----------
    viewer, header, fusion
        Where the open slides are, and where a trained model is used.
    """

    news = Signal(str)
    """How the training that is watched is getting on, in a few words; empty if none runs."""
    used = Signal()
    """A model was put into the list of methods."""

    def __init__(self, viewer: Any, header: Header, fusion: FusionJob) -> None:
        super().__init__()
        self._viewer, self._header, self._fusion = viewer, header, fusion
        self.job = TrainingJob(self)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(6, 8, 6, 6)
        self.form: TrainForm | None = None
        self._begun = False
        self.ready = False
        """Whether the contents are all there."""
        create_worker(_prepare, _start_thread=True, _ignore_errors=True)

    def showEvent(self, event: Any) -> None:
        """Make the contents, and find the run of before."""
        super().showEvent(event)
        if not self._begun:
            self._begun = True
            in_turns(self, self._build())

    def _build(self) -> Iterator[None]:
        self.form = form = TrainForm(self._viewer)
        yield
        self.progress = TrainProgress(self.job)
        yield
        self._lay_out(form)
        yield
        self._connect(form)
        self.ready = True
        self._show_job()
        yield
        runs = known_runs()
        if runs and self.job.run is None:
            self.job.open(runs[0])

    def _lay_out(self, form: TrainForm) -> None:
        self.message = Message("train")
        self.run_box = QComboBox()
        self.run_box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.run_box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.run_box.setToolTip("Trainings that were started or opened here")
        self.open_button = QPushButton("Open …")
        self.open_button.setToolTip("Watch a training, by its folder")
        row = QHBoxLayout()
        row.addWidget(self.run_box, 1)
        row.addWidget(self.open_button)
        self.pages = QStackedWidget()
        self.pages.addWidget(form)
        self.pages.addWidget(self.progress)
        self._layout.setSpacing(8)
        self._layout.addLayout(row)
        self._layout.addWidget(self.message)
        self._layout.addWidget(self.pages, 1)

    def _connect(self, form: TrainForm) -> None:
        self.window().installEventFilter(self)  # until this is deleted
        self.run_box.activated.connect(self._on_run_chosen)
        self.open_button.clicked.connect(self._ask_for_run)
        form.started.connect(self._start)
        self.progress.model_wanted.connect(self.use_model)
        self.progress.sheet_wanted.connect(self._add_sheet)
        self.job.changed.connect(self._show_job)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer and the run; the training goes on."""
        if self.form is not None:
            self.form.disconnect_viewer()
        if self.ready:
            self.job.changed.disconnect(self._show_job)
        self.job.leave()

    # ------------------------------------------------------------------ which run

    def _on_run_chosen(self, index: int) -> None:
        folder = self.run_box.itemData(index)
        if folder is None:
            self.job.leave()
        else:
            self.job.open(Path(folder))

    def _ask_for_run(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder of a training")
        if name:
            self.job.open(Path(name))

    def _start(self, request: TrainRequest) -> None:
        self.job.start(request)

    def _show_job(self) -> None:
        assert self.form is not None
        job = self.job
        watching = job.run is not None
        page = self.progress if watching else self.form
        if self.pages.currentWidget() is not page:
            self.pages.setCurrentWidget(page)
            if not watching:
                self.form.new_run()
        self._offer_runs()
        self.form.button.setText("Preparing …" if job.state == "creating" else "Start training")
        self.form.setEnabled(job.state != "creating")
        self.message.setVisible(bool(job.error) and not watching)
        self.message.warn(job.error)
        self.progress.show_job()
        self.news.emit(self._news())

    def _offer_runs(self) -> None:
        chosen = None if self.job.run is None else str(self.job.run.folder)
        if self.run_box.count() and self.run_box.currentData() == chosen:
            return
        self.run_box.blockSignals(True)
        self.run_box.clear()
        self.run_box.addItem(NEW, None)
        for folder in known_runs():
            self.run_box.addItem(folder.name, str(folder))
        self.run_box.setCurrentIndex(max(0, self.run_box.findData(chosen)))
        self.run_box.blockSignals(False)

    def _news(self) -> str:
        log = self.job.log
        if log is None or not self.job.active:
            return ""
        left = log.seconds_left()
        share = f"Training: {100 * log.step // max(1, log.steps)} %"
        return share if left is None else f"{share}, about {duration(left)} left"

    # ------------------------------------------------------------------ what a run gave

    def use_model(self, path: Path) -> None:
        """Put a model into the list of methods and choose it; a blur model makes the masks."""
        try:
            card = read_card(path)
            if card.architecture in BLUR_ARCHITECTURES:
                self._fusion.mask_model = path
                said = f"{card.title} makes the blur mask of the next fusions."
            else:
                said = f"{self._header.add_model(path)} is chosen as the method."
        except FocusFuseError as error:
            self.progress.status.warn(str(error))
        else:
            self.progress.status.say(said)
            self.used.emit()

    def _add_sheet(self, pixels: UInt8Image, name: str) -> None:
        self._viewer.add_image(pixels, name=name, rgb=True)

    # ------------------------------------------------------------------ the window closes

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Ask, once a run, whether it shall go on without the window."""
        if event.type() == QEvent.Type.Close and closed_by_user(watched, event):
            run = self.job.run
            going = self.job.state in ("starting", "running")
            if run is not None and going and not may_go_on(run.folder):
                if self._ask_to_go_on():
                    let_go_on(run.folder)
                else:
                    self.job.stop()
        return False

    def _ask_to_go_on(self) -> bool:
        text = "Training goes on without the window. Open FocusFuse again to see how far it is."
        box = QMessageBox(QMessageBox.Icon.Question, "FocusFuse", text, parent=self)
        go_on = box.addButton("Continue", QMessageBox.ButtonRole.AcceptRole)
        box.addButton("Stop training", QMessageBox.ButtonRole.DestructiveRole)
        box.setDefaultButton(go_on)
        box.setEscapeButton(go_on)
        # The window is closing: the answer is needed before it has gone.
        box.exec()
        return box.clickedButton() is go_on


def _prepare() -> None:
    """Read and import, in a worker, what the first look at the tab needs."""
    offered_recipes("one")
    import_module("pyqtgraph")
