"""A line of text for the user, wrapped; warnings stand out."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy

WARNING_COLOUR = "#ffb340"


class Message(QLabel):
    """A wrapped, selectable line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.plain = ""
        """The text without its looks."""

    def say(self, text: str, *warnings: str) -> None:
        """Show a text, and warnings on lines of their own."""
        lines = [_escaped(text), *(_coloured(warning) for warning in warnings)]
        self.plain = " · ".join((text, *warnings))
        self.setText("<br>".join(line for line in lines if line))

    def warn(self, text: str) -> None:
        """Show a text as a warning."""
        self.plain = text
        self.setText(_coloured(text))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _coloured(text: str) -> str:
    return f'<span style="color: {WARNING_COLOUR}">{_escaped(text)}</span>'
