"""The layers that a fusion fills: the fused picture and its blur mask, tile by tile."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.fusion.planes import offset_names
from napari_focusfuse.layer_metadata import (
    KEY,
    LayerData,
    fused_layer,
    mask_layer,
    overlay_axes,
    shown_mask,
)
from napari_focusfuse.slide import Region

from ._view import add_layer, layer_axes, level_factors
from .slide_source import ours

if TYPE_CHECKING:
    from napari_focusfuse.fusion.region import TileDone

REFRESH_MS = 170
"""Shortest time between two redraws of the growing layers: at most six a second."""


class GrowingResult(QObject):
    """Two layers over a slide's layer; all methods belong to the window's thread.

    Parameters
    ----------
    viewer, slide_layer
        Where the layers go, and what they lie over.
    plan, provenance
        Of the fusion that fills them.
    with_mask
        Whether there will be a blur mask.
    on_mask
        Called with the mask's layer once it is in the viewer.
    """

    def __init__(
        self,
        viewer: Any,
        slide_layer: Any,
        plan: FusionPlan,
        provenance: Mapping[str, Any],
        *,
        with_mask: bool,
        on_mask: Callable[[Any], None],
    ) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self._slide_layer, self._region = slide_layer, plan.region
        self._on_mask = on_mask
        fused, mask = _layer_data(slide_layer, plan, provenance)
        self._rgba, self._shown = fused[0], mask[0] if with_mask else None
        self.fused: Any = add_layer(viewer, fused, slide_layer)
        """The fused layer, or None once the user removed it."""
        self.mask: Any = None
        """The mask's layer; None before it is added, without one, or once it is removed."""
        self._dirty = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._redraw)
        if with_mask:
            # In a callback of its own: building a layer's controls takes the window a while.
            QTimer.singleShot(0, lambda: self._add_mask(mask))

    def _add_mask(self, data: LayerData) -> None:
        viewer = self._viewer()
        if viewer is None or self._slide_layer is None:
            return
        if self.fused in viewer.layers:
            self.mask = add_layer(viewer, data, self._slide_layer)
            self.mask.metadata[KEY].update(_progress(self.fused))
            self._on_mask(self.mask)

    def add(self, tile: TileDone) -> None:
        """Copy one tile, and redraw unless that was done a moment ago."""
        place = _slices(tile.region, self._region)
        self._rgba[place][..., :3] = tile.image
        self._rgba[place][..., 3] = 255
        if self._shown is not None and tile.mask is not None:
            self._shown[place] = shown_mask(tile.image, tile.mask)
        self._dirty = True
        if not self._timer.isActive():
            self._redraw()

    def complete(self, provenance: Mapping[str, Any]) -> None:
        """Note that every tile is there."""
        for layer in self._layers():
            layer.metadata[KEY].update(provenance=dict(provenance), complete=True)

    def finish(self) -> None:
        """Redraw a last time, thumbnails included."""
        self._timer.stop()
        for layer in self._layers():
            layer.refresh(extent=False)

    def pixels(self) -> tuple[Any, Any] | None:
        """Return the (Y, X, 4) picture and the (Y, X) mask; None without one, or once removed."""
        gone = self.fused is None or self._shown is None
        return None if gone else (self._rgba, self._shown)

    def forget(self, layer: Any) -> None:
        """Let go of a layer that was removed from the viewer, so that its slide can be closed."""
        if layer is self._slide_layer:
            self._slide_layer = None
        if layer is self.fused:
            self.fused = None
        if layer is self.mask:
            self.mask = None

    def _layers(self) -> list[Any]:
        return [layer for layer in (self.fused, self.mask) if layer is not None]

    def _redraw(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        for layer in self._layers():
            layer.refresh(extent=False, thumbnail=False)
        self._timer.start()


def _layer_data(
    slide_layer: Any, plan: FusionPlan, provenance: Mapping[str, Any]
) -> tuple[LayerData, LayerData]:
    region, name = plan.region, slide_layer.name
    factors = level_factors(slide_layer)[plan.level]
    axes = overlay_axes(layer_axes(slide_layer), factors, (region.y, region.x))
    noted: dict[str, Any] = {
        "provenance": provenance,
        "mpp": plan.mpp,
        "complete": False,
        "slide_id": ours(slide_layer).get("slide_id"),
    }
    title = f"fused {offset_names(plan.slide, plan.planes)} · {name}"
    return (
        fused_layer(region, axes, name=title, **noted),
        mask_layer(region, axes, name=f"blur mask · {name}", **noted),
    )


def _progress(layer: Any) -> dict[str, Any]:
    noted = ours(layer)
    return {"provenance": noted["provenance"], "complete": noted["complete"]}


def _slices(part: Region, whole: Region) -> tuple[slice, slice]:
    """Return where ``part`` lies in an array of ``whole``."""
    rows = slice(part.y - whole.y, part.stop_y - whole.y)
    return rows, slice(part.x - whole.x, part.stop_x - whole.x)
