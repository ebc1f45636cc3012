"""The choices that all tabs share: slide, method, focus layers, and the device that was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QGridLayout, QLabel, QWidget
from superqt.utils import create_worker

from napari_focusfuse.fusion.device import DeviceChoice, find_device
from napari_focusfuse.model_card import ModelError
from napari_focusfuse.slide import Slide

from .fuse_request import (
    PLANE_TITLES,
    MethodChoice,
    PlaneChoice,
    method_choices,
    preferred_method,
)
from .layer_choice import LayerChoice
from .message import Message
from .slide_source import is_slide, layer_key, ours, slide_of

OPEN_MODEL = "Open model …"
MODELS = "Models (*.safetensors)"


class Header(QWidget):
    """Slide, method and focus layers, as the user chose them."""

    changed = Signal()
    """Another slide, method or choice of focus layers."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._slides: tuple[Any, Slide] | None = None
        self._last_method = 0
        self.layer_choice = LayerChoice(viewer, is_slide)
        self.layer_choice.setObjectName("slide")
        self.method_box = QComboBox()
        self.method_box.setObjectName("method")
        self.planes_box = QComboBox()
        self.planes_box.setObjectName("planes")
        self.advice_line = Message("advice")
        self.device_line = Message("device")
        self.method_box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.message = Message("header")
        self.message.hide()
        self.notes = Message("notes")
        self._files: list[Path] = []
        self._methods: tuple[MethodChoice, ...] = ()
        self._offer_methods()
        self._lay_out()
        self.choose_method(preferred_method(self._methods))
        self._offer_planes()
        self.layer_choice.layer_changed.connect(self._on_layer_changed)
        self.method_box.currentIndexChanged.connect(self._on_method_changed)
        self.method_box.activated.connect(self._on_method_activated)
        self.planes_box.currentIndexChanged.connect(self.changed)
        self._find_device()
        self._show_notes()

    def _lay_out(self) -> None:
        # A QFormLayout would give wrapped lines more height than they need.
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Slide", self.layer_choice),
            ("", self.notes),
            ("Method", self.method_box),
            ("", self.advice_line),
            ("Focus layers", self.planes_box),
            ("Device", self.device_line),
            ("", self.message),
        )
        for row, (title, field) in enumerate(rows):
            if title:
                grid.addWidget(QLabel(title), row, 0)
            grid.addWidget(field, row, 1)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.layer_choice.layer

    @property
    def method(self) -> str:
        """The name of the chosen method or family."""
        return self._method_choice().name

    @property
    def planes(self) -> PlaneChoice:
        """Which focus layers are to be fused."""
        return self.planes_box.currentData()

    @property
    def methods(self) -> tuple[MethodChoice, ...]:
        """The methods that are offered."""
        return self._methods

    def slide(self) -> Slide | None:
        """Return the slide of the chosen layer, or None without one.

        Raises
        ------
        UnsupportedSlideError
            If the layer cannot be fused.
        """
        layer = self.layer
        if layer is None:
            self._slides = None
            return None
        key = layer_key(layer)
        if self._slides is None or self._slides[0] != key:
            self._slides = key, slide_of(layer)
        return self._slides[1]

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self.layer_choice.disconnect_viewer()

    def choose_method(self, name: str) -> None:
        """Choose a method by its name; nothing happens if it is not offered."""
        names = [choice.name for choice in self._methods]
        if name in names:
            self.method_box.setCurrentIndex(names.index(name))

    def add_model(self, path: Path) -> str:
        """Offer a model file, choose it and return its title.

        Raises
        ------
        ModelError
            If it is no fusion model, or damaged.
        """
        files = [*(file for file in self._files if file != path), path]
        choice = method_choices((), files)[-1]
        self._files = files
        self.method_box.blockSignals(True)
        self._offer_methods()
        self.method_box.blockSignals(False)
        self.choose_method(choice.name)
        self._on_method_changed()  # the same place in the list may hold another model now
        return choice.title

    def choose_planes(self, planes: PlaneChoice) -> None:
        """Choose the focus layers; nothing happens if the method does not take them."""
        index = self.planes_box.findData(planes)
        if index >= 0:
            self.planes_box.setCurrentIndex(index)

    def _on_layer_changed(self) -> None:
        self._show_notes()
        self.changed.emit()

    def _show_notes(self) -> None:
        """Say what is odd in the slide, and what it holds that is not shown."""
        notes = () if self.layer is None else ours(self.layer).get("notes", ())
        self.notes.say("", *notes)
        self.notes.setVisible(bool(notes))

    def _method_choice(self) -> MethodChoice:
        return self._methods[min(max(self.method_box.currentIndex(), 0), len(self._methods) - 1)]

    def _offer_methods(self) -> None:
        """List the methods, and below them the way to a file."""
        self._methods = method_choices(files=self._files)
        self.method_box.clear()
        self.method_box.addItems([choice.title for choice in self._methods])
        self.method_box.addItem(OPEN_MODEL)

    def _on_method_activated(self, index: int) -> None:
        if index < len(self._methods):
            self._last_method = index
            return
        self.method_box.setCurrentIndex(self._last_method)
        name, _ = QFileDialog.getOpenFileName(self, "Open model", "", MODELS)
        if name:
            try:
                self.add_model(Path(name))
            except ModelError as error:
                self.message.warn(str(error))
                self.message.show()

    def _on_method_changed(self) -> None:
        if self.method_box.currentIndex() >= len(self._methods):
            return  # the way to a file is no method
        self._last_method = self.method_box.currentIndex()
        self.message.hide()
        self._offer_planes()
        self.changed.emit()

    def _offer_planes(self) -> None:
        """Offer what the chosen method takes, and say when to choose it."""
        self.advice_line.say(self._method_choice().advice)
        chosen = self.planes_box.currentData()
        self.planes_box.blockSignals(True)
        self.planes_box.clear()
        for planes in self._method_choice().planes:
            self.planes_box.addItem(PLANE_TITLES[planes], planes)
        self.choose_planes(chosen)
        self.planes_box.blockSignals(False)

    def _find_device(self) -> None:
        self.device_line.say("looking …")
        create_worker(
            find_device,
            _connect={"returned": self._on_device, "errored": self._on_device_error},
        )

    def _on_device(self, choice: DeviceChoice) -> None:
        self.device_line.say(choice.description)
        self.device_line.setToolTip(choice.why_not_gpu or "")
        if choice.why_not_gpu:
            self.device_line.say(f"{choice.description} · {choice.why_not_gpu}")

    def _on_device_error(self, error: Exception) -> None:
        self.device_line.warn(str(error))
