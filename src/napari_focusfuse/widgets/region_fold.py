"""The regions drawn in a Shapes layer, each fused into a layer, or a file, of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.fusion.planes import offset_names
from napari_focusfuse.layer_metadata import slide_name
from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.writer import OutputError, check_output

from ._compat import shapes_layers
from ._view import shape_windows
from .fuse_request import FuseRequest, maps_of, regions_question, resolve_regions
from .fusion_job import FusionJob, save_layer
from .fusion_series import FusionSeries, Step
from .layer_choice import LayerChoice
from .message import Message
from .question import ask


class RegionFold(QCollapsible):
    """Fuses the box around each shape, one after the other.

    Parameters
    ----------
    viewer, job
        Where the shapes are, and what fuses.
    request
        Gives what the dock's fields and the view mean now, and the slide's layer; None without.
    """

    def __init__(
        self,
        viewer: Any,
        job: FusionJob,
        request: Callable[[], tuple[FuseRequest, Any] | None],
    ) -> None:
        super().__init__("Regions")
        self._viewer, self._job, self._request = viewer, job, request
        self._folder: Path | None = None
        self.series = FusionSeries(self, job)
        self.choice = LayerChoice(viewer, lambda layer: True, kind=shapes_layers)
        self.message = Message("regions")
        self.button = QPushButton("Fuse all regions")
        self.button.setToolTip("Fuse the box around each shape of this layer")
        self.folder_button = QPushButton("… into a folder")
        self.folder_button.setToolTip("The same, and write each as OME-TIFF")
        self._build()
        self.choice.layer_changed.connect(self._on_layer)
        self.button.clicked.connect(lambda: self.fuse())
        self.folder_button.clicked.connect(self._ask_for_folder)
        job.changed.connect(self.update_buttons)
        self.series.fused.connect(self._on_fused)
        self.update_buttons()

    def _build(self) -> None:
        self.setToolTip("Fuse all regions that are drawn in a Shapes layer")
        self.setDuration(0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.button, 1)
        row.addWidget(self.folder_button, 1)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.choice, self.message):
            layout.addWidget(widget)
        layout.addLayout(row)
        self.addWidget(inside)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer and the job."""
        self.choice.disconnect_viewer()
        self._job.changed.disconnect(self.update_buttons)

    def _on_layer(self) -> None:
        self._say("")
        self.update_buttons()

    def update_buttons(self) -> None:
        """Offer what is possible now."""
        possible = self._job.state == "idle" and self.choice.layer is not None
        self.button.setEnabled(possible)
        self.folder_button.setEnabled(possible)
        if self.choice.layer is None:
            self._say("Add a Shapes layer, and draw regions in it.")

    def fuse(self, folder: Path | None = None) -> None:
        """Fuse all regions, and write each into a folder where one is given."""
        self._say("")
        try:
            asked = self._request()
            if asked is None or self.choice.layer is None:
                return
            request, layer = asked
            windows = shape_windows(self._viewer, self.choice.layer, layer)
            plans = resolve_regions(request, windows)
            if folder is not None:
                _check_free(folder, plans)
        except FocusFuseError as error:
            self._say(str(error))
            return
        if not plans:
            self._say(f"{self.choice.layer.name} holds no shape; draw one around each region.")
            return
        question = regions_question(plans, self._job.seconds_per_tile(plans[0].info.name))
        if question is None:
            self._start(plans, layer, folder)
        else:
            ask(self, question, partial(self._start, plans, layer, folder))

    def _start(self, plans: list[FusionPlan], layer: Any, folder: Path | None) -> None:
        self._folder = folder
        shown = self._job.shown_maps
        steps = [
            Step(
                plan,
                _title(number),
                f"{_title(number)} · {offset_names(plan.slide, plan.planes)} · {layer.name}",
                tuple(name for name in maps_of(plan, shown) if name in shown),
            )
            for number, plan in enumerate(plans, start=1)
        ]
        self.series.start(steps, layer)

    def _on_fused(self, step: Step, layer: Any) -> None:
        if self._folder is not None:
            path = self._folder / _file_name(step.plan, step.title)
            save_layer(layer, str(path), _ignore, self._on_not_saved)

    def _on_not_saved(self, error: Exception) -> None:
        known = isinstance(error, FocusFuseError)
        self._say(str(error) if known else f"{type(error).__name__}: {error}")
        if self.series.running:
            self._job.cancel()

    def _ask_for_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the regions")
        if name:
            self.fuse(Path(name))

    def _say(self, text: str) -> None:
        self.message.say(text)
        self.message.setVisible(bool(text))


def _ignore(_path: str) -> None:
    """Say nothing of a file that was written: the next region is at work."""


def _file_name(plan: FusionPlan, title: str) -> str:
    return f"{slide_name(plan.slide)}-{title.replace(' ', '-')}.ome.tif"


def _check_free(folder: Path, plans: list[FusionPlan]) -> None:
    for number, plan in enumerate(plans, start=1):
        path = folder / _file_name(plan, _title(number))
        if path.exists():
            raise OutputError(f"{folder} holds {path.name} already; choose another folder.")
        check_output(path)


def _title(number: int) -> str:
    return f"region {number}"
