"""The Whole slide tab: a form for a new fusion, and the fusions there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_focusfuse.whole_slide.preview import FinishedPixels

from ._compat import image_layers
from .finished_layer import FinishedLayer
from .fuse_request import duration
from .fusion_job import FusionJob
from .header import Header
from .known_runs import known_outputs
from .message import Message
from .slide_form import FILES, SlideForm
from .slide_progress import SlideProgressView
from .slide_request import SlideRequest
from .slide_run import SlideRun
from .slide_source import ours

NEW = "a new fusion"
PLUGIN = "napari-focusfuse"


class SlideTab(QWidget):
    """Starts fusions of whole slides and watches them; they need neither tab nor window.

    Its contents are made when it is shown for the first time.

    Parameters
    ----------
    viewer, header, fusion
        Where the open slides and the choices are.
    """

    news = Signal(str)
    """How the fusion that is watched is getting on, in a few words; empty if none runs."""

    def __init__(self, viewer: Any, header: Header, fusion: FusionJob) -> None:
        super().__init__()
        self._viewer, self._header, self._fusion = viewer, header, fusion
        self.run = SlideRun(self)
        self.form: SlideForm | None = None
        self._finished: FinishedLayer | None = None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(6, 8, 6, 6)
        self._layout.setSpacing(8)

    def showEvent(self, event: Any) -> None:
        """Make the contents, and find the fusion of before if it is not done."""
        super().showEvent(event)
        if self.form is None:
            self._build()
            unfinished = (output for output in known_outputs() if not output.exists())
            last = next(unfinished, None)
            if last is not None and self.run.output is None:
                self.run.open(last)

    def _build(self) -> None:
        self.form = SlideForm(self._viewer, self._header, self._fusion)
        self.progress = SlideProgressView(self.run)
        self.message = Message("whole slide")
        self.run_box = QComboBox()
        self.run_box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.run_box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.run_box.setToolTip("Whole slides that were fused here, or half fused")
        self.open_button = QPushButton("Open …")
        self.open_button.setToolTip("Watch or resume a fusion, by its output")
        row = QHBoxLayout()
        row.addWidget(self.run_box, 1)
        row.addWidget(self.open_button)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.form)
        self.pages.addWidget(self.progress)
        self._layout.addLayout(row)
        self._layout.addWidget(self.message)
        self._layout.addWidget(self.pages, 1)
        self.run_box.activated.connect(self._on_run_chosen)
        self.open_button.clicked.connect(self._ask_for_output)
        self.form.started.connect(self._start)
        self.progress.result_wanted.connect(self._open_result)
        self.run.changed.connect(self._show_run)
        self.run.blocks_finished.connect(self._show_blocks)
        self._show_run()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer and the run; the fusion goes on."""
        if self.form is not None:
            self.run.changed.disconnect(self._show_run)
            self.form.disconnect_viewer()
        self.run.leave()

    # ------------------------------------------------------------------ which fusion

    def _on_run_chosen(self, index: int) -> None:
        output = self.run_box.itemData(index)
        self._finished = None
        if output is None:
            self.run.leave()
        else:
            self.run.open(Path(output))

    def _ask_for_output(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self,
            "Output of a fusion",
            "",
            FILES,
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if name:
            self._finished = None
            self.run.open(Path(name))

    def _start(self, request: SlideRequest) -> None:
        self._finished = None
        self.run.start(request)

    def _show_run(self) -> None:
        assert self.form is not None
        run = self.run
        watching = run.output is not None
        page = self.progress if watching else self.form
        if self.pages.currentWidget() is not page:
            self.pages.setCurrentWidget(page)
            self.form.update_request()
        self._offer_runs()
        self.message.setVisible(bool(run.error) and not watching)
        self.message.warn(run.error)
        self.progress.show_run()
        self.news.emit(self._news())

    def _offer_runs(self) -> None:
        chosen = None if self.run.output is None else str(self.run.output)
        if self.run_box.count() and self.run_box.currentData() == chosen:
            return
        self.run_box.blockSignals(True)
        self.run_box.clear()
        self.run_box.addItem(NEW, None)
        for output in known_outputs():
            self.run_box.addItem(output.name, str(output))
        if chosen is not None and self.run_box.findData(chosen) < 0:
            self.run_box.addItem(Path(chosen).name, chosen)
        self.run_box.setCurrentIndex(max(0, self.run_box.findData(chosen)))
        self.run_box.blockSignals(False)

    def _news(self) -> str:
        if not self.run.active or self.run.status is None:
            return ""
        progress = self.run.status.progress
        share = f"Whole slide: {100 * progress.done // max(progress.total, 1)} %"
        left = progress.seconds_left
        return share if left is None else f"{share}, about {duration(left)} left"

    # ------------------------------------------------------------------ in the viewer

    def _show_blocks(self, blocks: list[FinishedPixels]) -> None:
        """Draw finished blocks over the slide, if it is open."""
        job = self.run.job
        if job is None or self.run.state == "finished":
            return
        if self._finished is None:
            layer = self._layer_of(job.slide)
            if layer is None:
                return
            self._finished = FinishedLayer(self._viewer, layer, job)
        self._finished.add(blocks)

    def _layer_of(self, path: Path) -> Any:
        for layer in image_layers(self._viewer):
            noted = ours(layer)
            if noted.get("kind") == "slide" and noted["slide"].path.absolute() == path:
                return layer
        return None

    def _open_result(self, outputs: list[Path]) -> None:
        self._viewer.open([str(output) for output in outputs], plugin=PLUGIN, stack=False)
        finished = self._finished
        self._finished = None
        if finished is not None and finished.layer in self._viewer.layers:
            self._viewer.layers.remove(finished.layer)
