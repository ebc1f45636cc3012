"""The wheel belongs to the scroll area: a value must not change because somebody scrolls."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject


class _WheelGuard(QObject):
    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Pass the wheel on to whoever lies behind."""
        if event.type() == QEvent.Type.Wheel:
            event.ignore()
            return True
        return False


def keep_from_wheel(widget: Any) -> None:
    """Let a field ignore the wheel."""
    widget.installEventFilter(_WheelGuard(widget))
