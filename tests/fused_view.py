"""A click on Fuse view, as the window's tests need it."""

from __future__ import annotations

from typing import Any

from event_loop import settle, wait_until


def fuse(dock: Any, method: str = "argmax", seconds: float = 60.0) -> Any:
    """Fuse what is in view and return the fused layer; an error is a failure."""
    dock.header.choose_method(method)
    settle()
    dock.fuse_tab.button.click()
    wait_until(lambda: dock.job.state == "idle", seconds)
    settle()
    assert dock.job.error == ""
    return dock.job.fused
