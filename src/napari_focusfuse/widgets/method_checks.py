"""Boxes of methods, of which a few may be ticked."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from .fuse_request import MethodChoice


class MethodChecks(QWidget):
    """One box for each method that is offered.

    Parameters
    ----------
    most
        How many may be ticked; the other boxes are locked once so many are.
    """

    changed = Signal()

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._boxes: dict[MethodChoice, QCheckBox] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(3)

    def offer(self, methods: Sequence[MethodChoice]) -> None:
        """Offer these methods; those that were ticked stay so."""
        if tuple(methods) == tuple(self._boxes):
            return
        ticked = {choice.name for choice in self.chosen()}
        for box in self._boxes.values():
            self._layout.removeWidget(box)
            box.deleteLater()
        self._boxes = {choice: QCheckBox(choice.title) for choice in methods}
        for choice, box in self._boxes.items():
            box.setChecked(choice.name in ticked)
            box.toggled.connect(self._on_toggled)
            self._layout.addWidget(box)
        self._on_toggled()

    def chosen(self) -> tuple[MethodChoice, ...]:
        """Return the methods that are ticked, in the order they are offered."""
        return tuple(choice for choice, box in self._boxes.items() if box.isChecked())

    def choose(self, *names: str) -> None:
        """Tick the methods of these names, and no others."""
        for choice, box in self._boxes.items():
            box.setChecked(choice.name in names)

    def _on_toggled(self) -> None:
        full = len(self.chosen()) >= self._most
        for box in self._boxes.values():
            box.setEnabled(box.isChecked() or not full)
        self.changed.emit()
