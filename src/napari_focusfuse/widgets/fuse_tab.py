"""The Fuse tab: what will be fused, the button, the progress, the maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_focusfuse.fusion.method import MASK
from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.slide import FocusFuseError

from ._compat import camera
from ._view import level_factors, view_window
from .fuse_request import (
    FuseRequest,
    describe,
    is_large,
    map_warning,
    maps_of,
    progress,
    resolve,
    size_question,
)
from .fusion_job import FusionJob
from .header import Header
from .map_boxes import MapBoxes
from .message import Message
from .method_checks import MethodChecks
from .question import ask
from .region_fold import RegionFold
from .side_by_side import MOST, side_by_side

FILES = "OME-TIFF (*.ome.tif *.ome.tiff);;PNG (*.png)"

VIEW_MS = 120
"""Rest of the camera after which the status line is computed anew."""


class FuseTab(QWidget):
    """Shows the job; holds no rules of its own.

    Parameters
    ----------
    viewer, header, job
        Where the view, the choices and the running fusion are.
    """

    def __init__(self, viewer: Any, header: Header, job: FusionJob) -> None:
        super().__init__()
        self._viewer, self._header, self._job = viewer, header, job
        self.beside = side_by_side(viewer, job)
        self._plan: FusionPlan | None = None
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(VIEW_MS)
        self._timer.timeout.connect(self.update_plan)
        view = camera(viewer)
        self._sources = (view.events.zoom, view.events.center, viewer.dims.events)
        for source in self._sources:
            source.connect(self._later)
        header.changed.connect(self.update_plan)
        job.changed.connect(self._on_job_changed)
        job.map_shown.connect(self._later)
        self.button.clicked.connect(self.fuse_or_cancel)
        self.register_box.toggled.connect(self._on_register)
        self.blink_button.clicked.connect(job.blink)
        self.save_button.clicked.connect(self._ask_where_to_save)
        self.beside.changed.connect(self._show_job)
        self.methods.changed.connect(self._show_job)
        self.beside_button.clicked.connect(self.fuse_beside_or_back)
        self._shown_state = job.state
        self.update_plan()

    def _build(self) -> None:
        self.status = Message("status")
        self.status.setToolTip("What a click on Fuse view will do")
        self.button = QPushButton("Fuse view")
        self.button.setObjectName("fuse")
        self.button.setMinimumHeight(32)
        self.button.setDefault(True)
        self.button.setToolTip("Fuse exactly what is in view (Shift-F)")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        kept = self.progress.sizePolicy()
        kept.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(kept)
        self.result = Message("result")
        self.register_box = QCheckBox("Register the layers first")
        self.register_box.setToolTip(
            "Move layers that lie shifted or scaled a little onto the middle one before they are "
            "fused; scanners need it rarely, stages and cameras often"
        )
        self.register_box.setChecked(self._job.register)
        self.maps = MapBoxes(self._job)
        self.mask_box = self.maps.boxes[MASK.name]
        self.blink_button = QPushButton("Blink")
        self.blink_button.setToolTip("Hide what is fused, or show it again (Shift-B)")
        self.save_button = QPushButton("Save …")
        self.save_button.setToolTip("Save the last fused layer as OME-TIFF or PNG")
        looks = QHBoxLayout()
        looks.addStretch()
        looks.addWidget(self.blink_button)
        looks.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 8, 6, 6)
        layout.setSpacing(8)
        for widget in (self.status, self.button, self.progress):
            layout.addWidget(widget)
        layout.addWidget(self.register_box)
        layout.addWidget(self.maps)
        layout.addLayout(looks)
        layout.addWidget(self.result)
        layout.addWidget(self._side_by_side())
        self.regions = RegionFold(self._viewer, self._job, self._request_and_layer)
        layout.addWidget(self.regions)
        layout.addStretch()

    def _side_by_side(self) -> QCollapsible:
        self.methods = MethodChecks(MOST)
        self.beside_button = QPushButton("Fuse side by side")
        self.fold = QCollapsible("Side by side")
        self.fold.setToolTip(f"The same view by up to {MOST} methods, beside each other")
        self.fold.setDuration(0)
        self.fold.layout().setContentsMargins(0, 0, 0, 0)
        self.fold.addWidget(self.methods)
        self.fold.addWidget(self.beside_button)
        return self.fold

    def disconnect_viewer(self) -> None:
        """Stop following the viewer and the job."""
        self._timer.stop()
        for source in self._sources:
            source.disconnect(self._later)
        self._job.changed.disconnect(self._on_job_changed)
        self.beside.changed.disconnect(self._show_job)
        self._job.map_shown.disconnect(self._later)
        self.maps.disconnect_job()
        self.regions.disconnect_viewer()

    def _later(self, *_event: Any) -> None:
        self._timer.start()

    # ------------------------------------------------------------------ before the click

    def update_plan(self) -> None:
        """Say what a click will do, as the view and the choices are now."""
        self._plan = None
        self.methods.offer(self._header.methods)
        try:
            request = self._request()
            if request is None:
                self.status.say("Open a slide, or choose an RGB image layer.")
            else:
                self._plan = resolve(request)
                seconds = self._job.seconds_per_tile(self._plan.info.name)
                missing = map_warning(self._plan, self._job.shown_maps)
                warnings = [*self._plan.warnings, *([] if missing is None else [missing])]
                self.status.say(describe(self._plan, seconds), *warnings)
        except FocusFuseError as error:
            self.status.warn(str(error))
        self._show_job()

    def _request_and_layer(self) -> tuple[FuseRequest, Any] | None:
        request = self._request()
        return None if request is None else (request, self._header.layer)

    def _request(self) -> FuseRequest | None:
        layer, slide = self._header.layer, self._header.slide()
        if layer is None or slide is None:
            return None
        return FuseRequest(
            slide=slide,
            method=self._header.method,
            wanted=self._header.planes,
            window=view_window(self._viewer, layer),
            factors=level_factors(layer),
        )

    # ------------------------------------------------------------------ the click

    def fuse_or_cancel(self) -> None:
        """Fuse what is in view; while a fusion runs, cancel it."""
        if self._job.state != "idle":
            self._job.cancel()
            return
        self.update_plan()
        plan = self._plan
        if plan is None:
            return
        seconds = self._job.seconds_per_tile(plan.info.name)
        if is_large(plan, seconds):
            ask(self, size_question(plan, seconds), lambda: self._start(plan))
        else:
            self._start(plan)

    def _start(self, plan: FusionPlan) -> None:
        self._job.start(plan, self._header.layer, maps_of(plan, self._job.shown_maps))

    def _on_register(self, wanted: bool) -> None:
        self._job.register = wanted

    def fuse_beside_or_back(self) -> None:
        """Fuse what is in view by each ticked method; from the result, go back to one view."""
        if self.beside.shown:
            self.beside.back()
            return
        try:
            plans = self._plans_beside()
        except FocusFuseError as error:
            self.status.warn(str(error))
            return
        timed = [(plan, self._job.seconds_per_tile(plan.info.name)) for plan in plans]
        large = [each for each in timed if is_large(*each)]
        if large:
            question = f"{large[0][0].info.title}: {size_question(*large[0])}"
            ask(self, question, lambda: self._start_beside(plans))
        else:
            self._start_beside(plans)

    def _start_beside(self, plans: list[FusionPlan]) -> None:
        self.beside.start(plans, self._header.layer)

    def _plans_beside(self) -> list[FusionPlan]:
        request = self._request()
        if request is None:
            return []
        wanted = request.wanted
        # A method that does not take the chosen focus layers takes those it is best with.
        return [
            resolve(
                replace(
                    request,
                    method=choice.name,
                    wanted=wanted if wanted in choice.planes else choice.planes[0],
                )
            )
            for choice in self.methods.chosen()
        ]

    # ------------------------------------------------------------------ saving

    def _ask_where_to_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save fused layer", "fused.ome.tif", FILES)
        if name:
            self._job.save(name if Path(name).suffix else f"{name}.ome.tif")

    # ------------------------------------------------------------------ while it runs, and after

    def _on_job_changed(self) -> None:
        before, self._shown_state = self._shown_state, self._job.state
        if before != "idle" and self._job.state == "idle":
            self.update_plan()  # the time of a tile is known now
        else:
            self._show_job()

    def _show_job(self) -> None:
        job = self._job
        idle = job.state == "idle"
        self.button.setText(
            {"idle": "Fuse view", "running": "Cancel", "cancelling": "Cancelling …"}[job.state]
        )
        self.button.setEnabled(job.state == "running" or (idle and self._plan is not None))
        self.progress.setVisible(not idle)
        self.progress.setMaximum(max(job.total, 1))
        self.progress.setValue(job.done)
        self.blink_button.setEnabled(job.fused is not None)
        self.save_button.setEnabled(idle and job.fused is not None)
        beside = self.beside
        text = "Back to one view" if beside.shown else "Fuse side by side"
        self.beside_button.setText(text)
        enough = len(self.methods.chosen()) > 1 and self._plan is not None
        self.beside_button.setEnabled(idle and (beside.shown or enough))
        if job.error:
            self.result.warn(job.error)
        elif not idle:
            tiles = progress(job.done, job.total, job.tile_seconds)
            which = beside.series.progress or self.regions.series.progress
            self.result.say(f"{which} · {tiles}" if which else tiles)
        else:
            self.result.say(job.summary)
