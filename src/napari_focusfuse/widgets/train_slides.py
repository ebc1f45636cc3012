"""The slides to learn from: those that are open, and files; what each offers, what is the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from napari_focusfuse.slide import FocusFuseError, Slide
from napari_focusfuse.training_run import SlideSource

from ._compat import image_layers
from .message import Message
from .slide_source import ours
from .train_request import SlideOffer, What, look_at
from .wheel import keep_from_wheel

FILES = "Slides (*.mrxs *.tif *.tiff *.svs *.ndpi *.dcm);;All (*)"
FILE = "file"


class SlideRow(QWidget):
    """One slide: whether it is used, what it offers, what counts as the truth."""

    changed = Signal()

    def __init__(self, offer: SlideOffer, *, used: bool) -> None:
        super().__init__()
        self.offer = offer
        self._file: Path | None = None
        self.box = QCheckBox(offer.path.name)
        self.box.setChecked(used)
        self.box.setToolTip(str(offer.path))
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        facts = Message("offer")
        facts.say(offer.text)
        self.reference = QComboBox()
        self.reference.setToolTip("What counts as the truth for this slide")
        self.reference.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.reference.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for key, title in offer.references:
            self.reference.addItem(title, key)
        self.reference.addItem("a file …", FILE)
        if not offer.references:
            self.box.setChecked(False)
        row = QHBoxLayout()
        row.addWidget(QLabel("Truth"))
        row.addWidget(self.reference, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 4)
        layout.setSpacing(2)
        layout.addWidget(self.box)
        layout.addWidget(facts)
        layout.addLayout(row)
        keep_from_wheel(self.reference)
        self.box.toggled.connect(self.changed)
        self.reference.activated.connect(self._on_chosen)

    def source(self) -> SlideSource | None:
        """Return the slide as the trainer takes it, or None where it is not used."""
        if not self.box.isChecked():
            return None
        chosen = self.reference.currentData()
        if chosen == FILE:
            if self._file is None:
                return None
            chosen = str(self._file)
        return SlideSource(self.offer.path, chosen)

    def choose_file(self, path: Path) -> None:
        """Take another slide or an image as the truth."""
        self._file = path
        index = self.reference.findData(FILE)
        self.reference.setItemText(index, path.name)
        self.reference.setCurrentIndex(index)
        self.changed.emit()

    def _on_chosen(self) -> None:
        if self.reference.currentData() == FILE:
            name, _ = QFileDialog.getOpenFileName(self, "What counts as the truth", "")
            if name:
                self.choose_file(Path(name))
            elif self._file is None:
                self.reference.setCurrentIndex(0)
        self.changed.emit()


class SlideList(QWidget):
    """The slides of the viewer's layers and those added from files.

    Parameters
    ----------
    viewer
        Where the layers are.
    """

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._rows: dict[Path, SlideRow] = {}
        self._added: set[Path] = set()
        self.message = Message("slides")
        self.add_button = QPushButton("Add slides …")
        self.add_button.setToolTip("Learn from slides that are not open")
        self.add_button.clicked.connect(self._ask_for_files)
        self._list = QVBoxLayout()
        self._list.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._list)
        layout.addWidget(self.message)
        layout.addWidget(self.add_button)
        events = viewer.layers.events
        self._sources = (events.inserted, events.removed)
        for source in self._sources:
            source.connect(self.refresh)
        self.refresh()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        for source in self._sources:
            source.disconnect(self.refresh)

    def rows(self) -> list[SlideRow]:
        """Return the slides, the oldest first."""
        return list(self._rows.values())

    def slides(self) -> tuple[SlideSource, ...]:
        """Return the slides that are used."""
        sources = (row.source() for row in self.rows())
        return tuple(source for source in sources if source is not None)

    def problem(self, what: What) -> str:
        """Return why one of the chosen slides cannot teach this, or nothing."""
        problems = (row.offer.problem(what) for row in self.rows() if row.source() is not None)
        return next((problem for problem in problems if problem), "")

    def add_files(self, paths: list[Path]) -> None:
        """Add slides from files; they are looked at in a worker."""
        self.message.say("looking …")
        self._added.update(path.absolute() for path in paths)
        create_worker(
            look_at,
            paths,
            _connect={"returned": self._on_offers, "errored": self._on_error},
        )

    def refresh(self, event: Any = None) -> None:
        """Offer the slides the viewer holds now, and those that were added."""
        open_now = {}
        for layer in reversed(image_layers(self._viewer)):
            slide = ours(layer).get("slide")
            if isinstance(slide, Slide) and slide.path.exists():
                open_now[slide.path.absolute()] = slide
        for path in [p for p in self._rows if p not in open_now and p not in self._added]:
            row = self._rows.pop(path)
            self._list.removeWidget(row)
            row.deleteLater()
        for path, slide in open_now.items():
            if path not in self._rows:
                self._add(SlideOffer.of(slide))
        self._show()

    def _add(self, offer: SlideOffer) -> None:
        row = SlideRow(offer, used=True)
        row.changed.connect(self.changed)
        self._rows[offer.path.absolute()] = row
        self._list.addWidget(row)

    def _show(self) -> None:
        self.message.say("" if self._rows else "No slide is open.")
        self.message.setVisible(bool(self.message.plain))
        self.changed.emit()

    def _on_offers(self, offers: list[SlideOffer]) -> None:
        for offer in offers:
            if offer.path.absolute() not in self._rows:
                self._add(offer)
        self._show()

    def _on_error(self, error: Exception) -> None:
        known = isinstance(error, FocusFuseError)
        self.message.warn(str(error) if known else f"{type(error).__name__}: {error}")
        self.message.show()

    def _ask_for_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Slides to learn from", "", FILES)
        if names:
            self.add_files([Path(name) for name in names])
