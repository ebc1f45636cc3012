from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from event_loop import settle, wait_until
from fused_view import fuse


@pytest.fixture
def run(window: Any) -> Callable[[str], None]:
    """Run a command as a menu or the command palette does."""
    from app_model import Application

    app = Application.get_app("test_app")
    assert app is not None

    def command(name: str) -> None:
        app.commands.execute_command(f"napari-focusfuse.{name}").result()
        settle()

    return command


def test_the_menus_commands_open_the_dock_and_act(
    window: Any, run: Callable[[str], None], open_dock: Callable[[], Any]
) -> None:
    window.open_sample("napari-focusfuse", "algae")
    run("compare")
    dock = open_dock()
    assert dock.tabs.tabText(dock.tabs.currentIndex()) == "Compare"
    dock.header.choose_method("argmax")
    run("fuse_view")
    assert dock.tabs.tabText(dock.tabs.currentIndex()) == "Fuse"
    assert dock.job.state != "idle" or dock.job.fused is not None
    wait_until(lambda: dock.job.state == "idle")
    run("blur_mask")
    assert dock.fuse_tab.mask_box.isChecked()
    assert dock.job.mask is None or dock.job.mask.visible


def test_the_dock_touches_nothing_private(make_napari_viewer_proxy: Callable[..., Any]) -> None:
    from napari_focusfuse.widgets.dock import FocusFuseDock

    viewer = make_napari_viewer_proxy()
    viewer.open_sample("napari-focusfuse", "algae")
    dock = FocusFuseDock(viewer)
    viewer.window.add_dock_widget(dock)
    settle()
    fuse(dock)
    dock.compare_tab.reference_choice.choose(dock.header.layer)
    dock.compare_tab.compare()
    wait_until(lambda: dock.compare_tab.worker is None)
    assert dock.compare_tab.table.rowCount() > 0
    dock.compare_tab.show_difference()
    assert len(viewer.layers) >= 3
