"""What to fuse of a whole slide and to which files, and what that will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from napari_focusfuse.fusion.maps import available_maps
from napari_focusfuse.slide import FocusFuseError

from ._view import view_window
from .fusion_job import FusionJob
from .header import Header
from .message import Message
from .slide_request import (
    COMPRESSION_TITLES,
    Sample,
    SlideRequest,
    describe,
    free_bytes,
    measure,
    outputs_of,
    suggested_output,
    too_little_room,
    whole_plan,
    writable,
)
from .wheel import keep_from_wheel

FILES = "OME-TIFF (*.ome.tif);;OME-Zarr (*.ome.zarr)"
MEASURE_MS = 600
"""Rest of the choices after which a tile is fused to measure with."""


class SlideForm(QWidget):
    """The fields of a new fusion; slide, method and focus layers are the header's."""

    started = Signal(object)
    """A :class:`SlideRequest` is to be run."""

    def __init__(self, viewer: Any, header: Header, fusion: FusionJob) -> None:
        super().__init__()
        self._viewer, self._header, self._fusion = viewer, header, fusion
        self._samples: dict[tuple[object, ...], Sample] = {}
        self._measuring: tuple[object, ...] | None = None
        self._suggested = ""
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(MEASURE_MS)
        self._timer.timeout.connect(self._measure)
        header.changed.connect(self.update_request)
        viewer.dims.events.current_step.connect(self.update_request)
        self.request: SlideRequest | None = None
        """What Start will run; None where it cannot."""
        self.update_request()

    def _build(self) -> None:
        self.output = QLineEdit()
        self.output.setToolTip("OME-TIFF opens in QuPath, OpenSlide and Bio-Formats")
        self.choose_button = QPushButton("…")
        self.choose_button.setFixedWidth(32)
        row = QHBoxLayout()
        row.addWidget(self.output, 1)
        row.addWidget(self.choose_button)
        self.compression = QComboBox()
        for name, title in COMPRESSION_TITLES.items():
            self.compression.addItem(title, name)
        keep_from_wheel(self.compression)
        # What a title says in brackets is for the shell.
        self.maps = {
            name: QCheckBox(title.partition(" (")[0]) for name, title in available_maps().items()
        }
        boxes = QVBoxLayout()
        boxes.setSpacing(2)
        for name, box in self.maps.items():
            box.setToolTip(f"Written beside the picture, as .{name}.ome.tif")
            box.toggled.connect(self.update_request)
            boxes.addWidget(box)
        self.estimate = Message("slide estimate")
        self.button = QPushButton("Fuse whole slide")
        self.button.setMinimumHeight(32)
        self.button.setToolTip("In a process of its own: the window may be closed meanwhile")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Output", row)
        form.addRow("Compression", self.compression)
        form.addRow("Maps", boxes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(form)
        layout.addWidget(self.estimate)
        layout.addWidget(self.button)
        layout.addStretch()
        self.output.textChanged.connect(self.update_request)
        self.compression.currentIndexChanged.connect(self.update_request)
        self.choose_button.clicked.connect(self._ask_where)
        self.button.clicked.connect(self._start)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self._timer.stop()
        self._header.changed.disconnect(self.update_request)
        self._viewer.dims.events.current_step.disconnect(self.update_request)

    # ------------------------------------------------------------------ before the click

    def update_request(self, event: Any = None) -> None:
        """Say what a click will do, as the choices are now."""
        self.request = None
        try:
            self._update()
        except FocusFuseError as error:
            self.estimate.warn(str(error))
        self.button.setEnabled(self.request is not None)

    def _update(self) -> None:
        layer, slide = self._header.layer, self._header.slide()
        if layer is None or slide is None:
            self.estimate.say("Open a slide to fuse it whole.")
            return
        centre = view_window(self._viewer, layer).plane
        plan = whole_plan(slide, self._header.method, self._header.planes, centre)
        self._suggest(suggested_output(slide))
        request = SlideRequest(
            plan,
            Path(self.output.text()).absolute(),
            tuple(name for name, box in self.maps.items() if box.isChecked()),
            self.compression.currentData(),
            self._fusion.device,
            self._fusion.mask_model,
        )
        problem = writable(outputs_of(request.output, request.maps))
        if problem:
            self.estimate.warn(problem)
            return
        self.request = request
        sample, free = self._samples.get(_key(request)), free_bytes(request.output)
        room = "" if sample is None else too_little_room(request, sample, free)
        warnings = (*plan.warnings, *([room] if room else []))
        self.estimate.say(describe(request, sample, free), *warnings)
        if sample is None and self.isVisible():
            self._timer.start()

    def showEvent(self, event: Any) -> None:
        """Measure for what is chosen, now that somebody looks."""
        super().showEvent(event)
        self.update_request()

    def _suggest(self, output: Path) -> None:
        """Offer a name until the user gives one."""
        if self.output.text() in ("", self._suggested):
            self._suggested = str(output)
            self.output.blockSignals(True)
            self.output.setText(self._suggested)
            self.output.blockSignals(False)

    def _measure(self) -> None:
        request = self.request
        if request is None or self._measuring is not None or not self.isVisible():
            return
        if _key(request) in self._samples:
            return
        self._measuring = _key(request)
        create_worker(
            measure,
            request,
            _connect={"returned": self._on_measured, "errored": self._on_error},
        )

    def _on_measured(self, sample: Sample) -> None:
        if self._measuring is not None:
            self._samples[self._measuring] = sample
        self._measuring = None
        self.update_request()

    def _on_error(self, error: Exception) -> None:
        self._measuring = None
        known = isinstance(error, FocusFuseError)
        self.estimate.warn(str(error) if known else f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------------ the click

    def _ask_where(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Output", self.output.text(), FILES)
        if name:
            self.output.setText(name if Path(name).suffix else f"{name}.ome.tif")

    def _start(self) -> None:
        if self.request is not None:
            self.started.emit(self.request)


def _key(request: SlideRequest) -> tuple[object, ...]:
    """Return what a measurement depends on."""
    plan = request.plan
    planes = tuple(plane.index for plane in plan.planes)
    choices = (request.maps, request.compression, request.blur_model)
    return (plan.slide.path, plan.info.name, plan.info.model_hash, planes, plan.level, *choices)
