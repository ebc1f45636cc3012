"""The Compare tab: an image against a reference, in figures and as a difference layer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from napari_focusfuse.layer_metadata import Axes, difference_layer
from napari_focusfuse.slide import FocusFuseError

from ._compat import image_layers
from ._view import add_layer, layer_axes
from .compare_request import Compared, CompareRequest, FileSource, run_comparison
from .compare_source import layer_request, score_text
from .layer_choice import LayerChoice
from .message import Message
from .slide_source import ours

LARGEST_SHIFT = 100_000
FILES = "Images and slides (*.png *.jpg *.jpeg *.bmp *.webp *.tif *.tiff *.svs *.ndpi);;All (*)"


class CompareTab(QWidget):
    """Chooses two pictures and shows what :func:`run_comparison` says of them.

    Parameters
    ----------
    viewer
        Where the layers are.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._file: Path | None = None
        self._by_hand = False
        self._compared: Compared | None = None
        self._image_layer: Callable[[], Any] = lambda: None
        self.worker: Any = None
        """The comparison that is running, or None."""
        self.image_choice = LayerChoice(viewer, _is_picture)
        self.image_choice.setObjectName("image")
        self.reference_choice = LayerChoice(viewer, _is_picture)
        self.reference_choice.setObjectName("reference")
        self._build()
        self._prefer()
        viewer.layers.events.inserted.connect(self._prefer)
        self.reference_choice.activated.connect(self._forget_file)

    # ------------------------------------------------------------------ looks

    def _build(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", self.image_choice)
        form.addRow("Reference", self._reference_row())
        form.addRow("Shift", self._shift_row())
        self.button = QPushButton("Compare")
        self.button.setMinimumHeight(32)
        self.button.clicked.connect(self.compare)
        self.status = Message("comparison")
        self.table = _table()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 8, 6, 6)
        layout.setSpacing(8)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.status)
        layout.addWidget(self.table)
        layout.addLayout(self._result_row())
        layout.addStretch()

    def _reference_row(self) -> QHBoxLayout:
        self.file_button = QPushButton("File …")
        self.file_button.setToolTip("Take an image file, such as the scanner's own export")
        self.file_button.clicked.connect(self._ask_for_file)
        row = QHBoxLayout()
        row.addWidget(self.reference_choice)
        row.addWidget(self.file_button)
        return row

    def _shift_row(self) -> QHBoxLayout:
        self.shift_boxes = QSpinBox(), QSpinBox()
        row = QHBoxLayout()
        for box, axis in zip(self.shift_boxes, ("y", "x"), strict=True):
            box.setRange(-LARGEST_SHIFT, LARGEST_SHIFT)
            box.setPrefix(f"{axis} ")
            box.setSuffix(" px")
            box.setToolTip(
                f"{axis} pixels from the image's corner to the reference's; change it to place the "
                "reference by hand"
            )
            box.valueChanged.connect(self._on_shift_changed)
            row.addWidget(box, 1)
        self.auto_button = QPushButton("Find")
        self.auto_button.setToolTip("Place the reference by its position, or by correlation")
        self.auto_button.clicked.connect(self._find_shift)
        row.addWidget(self.auto_button)
        return row

    def _result_row(self) -> QHBoxLayout:
        self.difference_button = QPushButton("Difference layer")
        self.difference_button.setToolTip("Image minus reference: blue darker, red brighter")
        self.difference_button.clicked.connect(self.show_difference)
        self.csv_button = QPushButton("Save CSV …")
        self.csv_button.clicked.connect(self._ask_for_csv)
        row = QHBoxLayout()
        for button in (self.difference_button, self.csv_button):
            button.setEnabled(False)
            row.addWidget(button)
        return row

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self._viewer.layers.events.inserted.disconnect(self._prefer)
        for choice in (self.image_choice, self.reference_choice):
            choice.disconnect_viewer()

    # ------------------------------------------------------------------ what is compared

    def choose_file(self, path: Path | None) -> None:
        """Take a file as the reference; None: a layer again."""
        self._file = path
        self.reference_choice.setPlaceholderText("" if path is None else path.name)
        if path is None:
            return
        self.reference_choice.setCurrentIndex(-1)
        self.reference_choice.setToolTip(str(path))

    def _prefer(self, event: Any = None) -> None:
        """Offer the newest fused layer against the extended focus of a slide."""
        layers = [layer for layer in image_layers(self._viewer) if _is_picture(layer)]
        kinds = {"fused": self.image_choice, "extended focus": self.reference_choice}
        for kind, choice in kinds.items():
            newest = next((layer for layer in layers if ours(layer).get("kind") == kind), None)
            if newest is not None and (choice is self.image_choice or self._file is None):
                choice.choose(newest)

    def _forget_file(self, index: int) -> None:
        self._file = None

    def _ask_for_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Reference", "", FILES)
        if name:
            self.choose_file(Path(name))

    def _on_shift_changed(self) -> None:
        self._by_hand = True

    def _find_shift(self) -> None:
        self._by_hand = False
        self.compare()

    def _request(self) -> CompareRequest | None:
        file = None if self._file is None else FileSource(self._file)
        shift = (self.shift_boxes[0].value(), self.shift_boxes[1].value())
        return layer_request(
            self._viewer,
            self.image_choice.layer,
            self.reference_choice.layer if file is None else file,
            shift if self._by_hand else None,
        )

    # ------------------------------------------------------------------ the click and its answer

    def compare(self) -> None:
        """Compare in a worker; nothing happens while one runs."""
        if self.worker is not None:
            return
        try:
            request = self._request()
        except FocusFuseError as error:
            self.status.warn(str(error))
            return
        if request is None:
            self.status.say("Choose an image and a reference: two RGB layers, or a file.")
            return
        self._image_layer = weakref.ref(self.image_choice.layer)
        self.status.say("comparing …")
        self.button.setEnabled(False)
        self.worker = create_worker(
            run_comparison,
            request,
            _connect={
                "returned": self._on_compared,
                "errored": self._on_error,
                "finished": self._on_finished,
            },
        )

    def _on_compared(self, compared: Compared) -> None:
        self._compared = compared
        result = compared.comparison
        for box, shift in zip(self.shift_boxes, result.shift, strict=True):
            box.blockSignals(True)
            box.setValue(shift)
            box.blockSignals(False)
        _fill(self.table, result.scores, result.variants)
        self.status.say(score_text(result, self._by_hand))
        self.difference_button.setEnabled(True)
        self.csv_button.setEnabled(True)

    def _on_error(self, error: Exception) -> None:
        known = isinstance(error, FocusFuseError)
        self.status.warn(
            str(error) if known else f"Comparing failed: {type(error).__name__}: {error}"
        )

    def _on_finished(self) -> None:
        self.worker = None
        self.button.setEnabled(True)

    def show_difference(self) -> None:
        """Add the signed difference as a layer."""
        beside = self._image_layer()
        if self._compared is None:
            return
        if beside is None or beside not in self._viewer.layers:
            self.status.warn("The image was removed from the viewer; compare again.")
            return
        result, (scale, translate) = self._compared.comparison, self._compared.axes
        axes = layer_axes(beside).image()
        placed = Axes(scale, translate, axes.units, axes.labels)
        name = f"{result.image} − {result.reference}"
        add_layer(self._viewer, difference_layer(result.difference, placed, name=name), beside)

    def save_csv(self, path: Path) -> None:
        """Write the scores."""
        if self._compared is None:
            return
        try:
            self._compared.comparison.to_csv(path)
            self.status.say(f"saved {path.name}")
        except FocusFuseError as error:
            self.status.warn(str(error))

    def _ask_for_csv(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save scores", "scores.csv", "CSV (*.csv)")
        if name:
            self.save_csv(Path(name))


def _is_picture(layer: Any) -> bool:
    return bool(layer.rgb) and ours(layer).get("kind") not in ("blur mask", "difference")


def _table() -> QTableWidget:
    table = QTableWidget(0, 2)
    table.setObjectName("scores")
    table.setHorizontalHeaderLabels(["score", "value"])
    table.verticalHeader().hide()
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    table.setVisible(False)
    return table


def _fill(table: QTableWidget, scores: Any, variants: Any) -> None:
    table.setRowCount(len(scores))
    for row, (name, value) in enumerate(scores.items()):
        title = QTableWidgetItem(name)
        title.setToolTip(variants[name])
        figure = QTableWidgetItem(f"{value:.2f} dB" if name == "PSNR" else f"{value:.4f}")
        figure.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        table.setItem(row, 0, title)
        table.setItem(row, 1, figure)
    table.setVisible(True)
    table.resizeRowsToContents()
    height = table.horizontalHeader().height() + 2 * table.frameWidth()
    table.setFixedHeight(height + sum(table.rowHeight(row) for row in range(len(scores))))
