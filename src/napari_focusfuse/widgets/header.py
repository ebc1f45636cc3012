"""The choices that all tabs share: slide, method, focus layers, and the device that was found."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget
from superqt.utils import create_worker

from napari_focusfuse.fusion.device import DeviceChoice, find_device
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
from .slide_source import is_slide, layer_key, slide_of


class Header(QWidget):
    """Slide, method and focus layers, as the user chose them."""

    changed = Signal()
    """Another slide, method or choice of focus layers."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._slides: tuple[Any, Slide] | None = None
        self.layer_choice = LayerChoice(viewer, is_slide)
        self.layer_choice.setObjectName("slide")
        self.method_box = QComboBox()
        self.method_box.setObjectName("method")
        self.planes_box = QComboBox()
        self.planes_box.setObjectName("planes")
        self.device_line = Message("device")
        self._methods: tuple[MethodChoice, ...] = method_choices()
        self.method_box.addItems([choice.title for choice in self._methods])
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Slide", self.layer_choice)
        form.addRow("Method", self.method_box)
        form.addRow("Focus layers", self.planes_box)
        form.addRow("Device", self.device_line)
        self.choose_method(preferred_method(self._methods))
        self._offer_planes()
        self.layer_choice.layer_changed.connect(self.changed)
        self.method_box.currentIndexChanged.connect(self._on_method_changed)
        self.planes_box.currentIndexChanged.connect(self.changed)
        self._find_device()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.layer_choice.layer

    @property
    def method(self) -> str:
        """The name of the chosen method or family."""
        return self._methods[max(self.method_box.currentIndex(), 0)].name

    @property
    def planes(self) -> PlaneChoice:
        """Which focus layers are to be fused."""
        return self.planes_box.currentData()

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

    def choose_planes(self, planes: PlaneChoice) -> None:
        """Choose the focus layers; nothing happens if the method does not take them."""
        index = self.planes_box.findData(planes)
        if index >= 0:
            self.planes_box.setCurrentIndex(index)

    def _on_method_changed(self) -> None:
        self._offer_planes()
        self.changed.emit()

    def _offer_planes(self) -> None:
        chosen = self.planes_box.currentData()
        self.planes_box.blockSignals(True)
        self.planes_box.clear()
        for planes in self._methods[max(self.method_box.currentIndex(), 0)].planes:
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
