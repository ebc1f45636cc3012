from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from event_loop import settle

MISSING = "no display; run under a desktop or with xvfb-run"


def pytest_runtest_setup(item: pytest.Item) -> None:
    windowing = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not windowing or os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        pytest.skip(MISSING)


@pytest.fixture
def window(make_napari_viewer: Callable[..., Any]) -> Any:
    """A shown viewer with a canvas of known size."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1100, 800)
    settle()
    return viewer


@pytest.fixture
def open_dock(window: Any) -> Callable[[], Any]:
    """Open the dock as the Plugins menu does, behind the proxy that plugins get."""

    def opened() -> Any:
        _, dock = window.window.add_plugin_dock_widget("napari-focusfuse", "FocusFuse")
        settle()
        return dock

    return opened
