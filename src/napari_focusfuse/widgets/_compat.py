"""The few places where viewer versions differ, and what a plugin may know of a viewer."""

from __future__ import annotations

from typing import Any

from napari.layers import Image, Shapes


def camera(viewer: Any) -> Any:
    """Return the viewer's camera; ``viewer.camera`` is deprecated since napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def scale_bar(viewer: Any) -> Any:
    """Return the viewer's scale bar; ``viewer.scale_bar`` is deprecated since napari 0.9."""
    return viewer.canvas.overlays.scale_bar if hasattr(viewer, "canvas") else viewer.scale_bar


def grid(viewer: Any) -> Any:
    """Return the viewer's grid of views; ``viewer.grid`` is deprecated since napari 0.9."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def show_name(layer: Any, shown: bool) -> None:
    """Write a layer's name into its view, or take it away; napari before 0.7 cannot."""
    if hasattr(layer, "name_overlay"):
        layer.name_overlay.font_size = 8
        layer.name_overlay.visible = shown


def show_colour_bar(layer: Any, shown: bool) -> None:
    """Show what a layer's colours stand for, or take it away; napari before 0.7 cannot."""
    if hasattr(layer, "colorbar"):
        layer.colorbar.visible = shown


def viewbox(viewer: Any) -> tuple[float, float]:
    """Return the (height, width) of one view in logical pixels, grid mode included."""
    height, width = viewer.canvas.viewbox_size(viewer.layers)
    return float(height), float(width)


def unwrapped(proxied: Any) -> Any:
    """Return the object behind the proxy that plugins get, to tell whether two are the same."""
    return getattr(proxied, "__wrapped__", proxied)


def image_layers(viewer: Any) -> list[Image]:
    """Return the viewer's image layers, top one first, as they are (not proxied)."""
    layers = [unwrapped(layer) for layer in viewer.layers]
    return [layer for layer in reversed(layers) if isinstance(layer, Image)]


def shapes_layers(viewer: Any) -> list[Shapes]:
    """Return the viewer's layers of shapes, top one first, as they are (not proxied)."""
    layers = [unwrapped(layer) for layer in viewer.layers]
    return [layer for layer in reversed(layers) if isinstance(layer, Shapes)]


def closed_by_user(window: Any, event: Any) -> bool:
    """Tell whether a main window's Close event comes from the user, not from ``viewer.close()``.

    That one hides the canvas before it closes the window; the x and the menu do not.
    """
    canvas = window.centralWidget()
    return event.spontaneous() or (canvas is not None and _shows_anything(canvas))


def _shows_anything(widget: Any) -> bool:
    return any(child.isVisible() for child in widget.children() if child.isWidgetType())
