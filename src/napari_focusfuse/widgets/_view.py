"""Between the camera and the slide: what is in view, and where results go."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.layer_metadata import Axes, LayerData, ViewWindow
from napari_focusfuse.slide import RegionError

from ._compat import camera, unwrapped, viewbox


def view_window(viewer: Any, layer: Any) -> ViewWindow:
    """Return what the viewer shows of an image layer, in its level-0 pixels; may reach beyond it.

    The four corners are transformed, so a rotated layer gives the box around what is in view.

    Raises
    ------
    RegionError
        If the view is a 3D view, or cuts through the planes.
    """
    displayed = list(viewer.dims.displayed)
    if displayed != [viewer.dims.ndim - 2, viewer.dims.ndim - 1]:
        raise RegionError(
            "Only a flat view of the slide can be fused; switch the viewer back to 2D, with y and x"
            " shown."
        )
    view = camera(viewer)
    half = np.asarray(viewbox(viewer)) / view.zoom / 2
    centre = np.asarray(view.center)[-2:]
    signs = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    points = np.tile(np.asarray(viewer.dims.point, dtype=float), (4, 1))
    points[:, displayed] = signs * half + centre
    return _window_around(points, layer)


def shape_windows(viewer: Any, shapes: Any, layer: Any) -> list[ViewWindow]:
    """Return the box around each shape of a Shapes layer, as :func:`view_window` says views.

    A shape that was drawn at a plane counts from there, one of a flat layer from the slider's.
    """
    windows = []
    for vertices in shapes.data:
        points = np.tile(np.asarray(viewer.dims.point, dtype=float), (len(vertices), 1))
        points[:, -shapes.ndim :] = [shapes.data_to_world(vertex) for vertex in vertices]
        windows.append(_window_around(points, layer))
    return windows


def _window_around(points: npt.NDArray[np.float64], layer: Any) -> ViewWindow:
    """Return the box around (N, D) points of the world, at the plane of the first one."""
    data = np.stack([layer.world_to_data(point[-layer.ndim :]) for point in points])
    # The centre of pixel 0 lies at 0, its edge at -0.5.
    low, high = data[:, -2:].min(axis=0) + 0.5, data[:, -2:].max(axis=0) + 0.5
    last = level_shapes(layer)[0][0] - 1 if layer.ndim > 2 else 0
    plane = int(np.clip(np.round(data[0, 0]), 0, last)) if layer.ndim > 2 else 0
    return ViewWindow(plane, float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def level_shapes(layer: Any) -> list[tuple[int, ...]]:
    """Return the shape of each level of an image layer, the colour axis left out."""
    data = layer.data if layer.multiscale else [layer.data]
    return [tuple(int(n) for n in array.shape[: layer.ndim]) for array in data]


def level_factors(layer: Any) -> tuple[tuple[float, float], ...]:
    """Return the (y, x) factor of each level as the viewer draws it: from the level shapes."""
    shapes = level_shapes(layer)
    height, width = shapes[0][-2:]
    return tuple((height / shape[-2], width / shape[-1]) for shape in shapes)


def layer_axes(layer: Any) -> Axes:
    """Return how a layer's axes lie in the world, its rotation left out."""
    return Axes(
        tuple(float(s) for s in layer.scale),
        tuple(float(t) for t in layer.translate),
        tuple(str(unit) for unit in layer.units),
        tuple(layer.axis_labels),
    )


def add_layer(viewer: Any, data: LayerData, beside: Any) -> Any:
    """Add a 2D layer on top of another, which is selected so that the z keys keep working.

    Parameters
    ----------
    beside
        A layer whose rotation, shear and affine transform the new layer takes over.
    """
    array, keywords, _ = data
    layer = unwrapped(viewer.add_image(array, **keywords))
    layer.affine = _beyond_scale(beside)
    viewer.layers.selection.active = beside
    return layer


def _beyond_scale(layer: Any) -> npt.NDArray[np.float64]:
    """Return what a layer does to y and x after scale and translate, as a 3 x 3 affine matrix."""
    axes = layer_axes(layer).image()
    points = np.zeros((3, layer.ndim))
    points[1, -2] = points[2, -1] = 1.0
    origin, down, right = (np.asarray(layer.data_to_world(p), dtype=float)[-2:] for p in points)
    linear = np.stack([down - origin, right - origin], axis=1) / np.asarray(axes.scale)
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = origin - linear @ np.asarray(axes.translate)
    return matrix
