from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from event_loop import settle
from fused_view import fuse
from napari_focusfuse.widgets._compat import camera

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


class FusedView(NamedTuple):
    """A part of a slide that was fused."""

    dock: Any
    slide: Any
    """The slide's layer."""
    layer: Any
    """The fused layer."""


@pytest.fixture
def fused_smear(window: Any, open_dock: Callable[[], Any]) -> FusedView:
    """A part of the smear, fused by argmax."""
    slide, _ = window.open_sample("napari-focusfuse", "synthetic_smear")
    camera(window).zoom = 8
    dock = open_dock()
    return FusedView(dock, slide, fuse(dock))
