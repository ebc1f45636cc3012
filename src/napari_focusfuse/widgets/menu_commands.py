"""What the Layers menu and the command palette offer; each opens the dock first."""

from __future__ import annotations

from typing import Any

import napari.viewer

from .dock import FocusFuseDock


def fuse_view(viewer: napari.viewer.Viewer) -> None:
    """Fuse what is in view."""
    dock = open_dock(viewer)
    dock.choose_tab("Fuse")
    dock.fuse_tab.fuse_or_cancel()


def fuse_regions(viewer: napari.viewer.Viewer) -> None:
    """Fuse all regions that are drawn in a Shapes layer."""
    dock = open_dock(viewer)
    dock.choose_tab("Fuse")
    dock.fuse_tab.regions.expand(False)
    dock.fuse_tab.regions.fuse()


def blur_mask(viewer: napari.viewer.Viewer) -> None:
    """Show the blur mask, or hide it."""
    dock = open_dock(viewer)
    dock.choose_tab("Fuse")
    dock.fuse_tab.mask_box.toggle()


def compare(viewer: napari.viewer.Viewer) -> None:
    """Open the comparison."""
    open_dock(viewer).choose_tab("Compare")


def open_dock(viewer: Any) -> FocusFuseDock:
    """Return the window's dock, opening it if it is not there."""
    _, dock = viewer.window.add_plugin_dock_widget("napari-focusfuse", "FocusFuse")
    return dock
