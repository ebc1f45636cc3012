"""Let the window work while a test waits."""

from __future__ import annotations

import time
from collections.abc import Callable


def settle(seconds: float = 0.2) -> None:
    """Let the window work for a while."""
    wait_until(lambda: False, seconds, strict=False)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0, strict: bool = True) -> None:
    """Let the window work until something holds; more than that time is a failure."""
    from qtpy.QtWidgets import QApplication

    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            assert not strict, "waited in vain"
            return
        QApplication.processEvents()
        time.sleep(0.002)
