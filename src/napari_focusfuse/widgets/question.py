"""A question before something large is started; the window goes on while it is open."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QMessageBox, QWidget


def ask(parent: QWidget, text: str, go_on: Callable[[], None]) -> None:
    """Ask whether to fuse all of it, and call ``go_on`` if the answer is yes."""
    box = QMessageBox(QMessageBox.Icon.Question, "FocusFuse", text, parent=parent)
    fuse = box.addButton("Fuse all of it", QMessageBox.ButtonRole.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(QMessageBox.StandardButton.Cancel)

    def answered() -> None:
        accepted = box.clickedButton() is fuse
        box.deleteLater()
        if accepted:
            go_on()

    box.finished.connect(answered)
    box.open()
