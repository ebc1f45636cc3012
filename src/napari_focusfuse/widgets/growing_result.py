"""The layers that a fusion fills, tile by tile: the fused picture and its maps."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_focusfuse.fusion.method import MASK
from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.fusion.planes import offset_names
from napari_focusfuse.layer_metadata import (
    KEY,
    LayerData,
    fused_layer,
    map_layer,
    overlay_axes,
    shown_map,
)
from napari_focusfuse.slide import Region

from ._compat import show_colour_bar
from ._view import add_layer, layer_axes, level_factors
from .slide_source import ours
from .turns import in_turns

if TYPE_CHECKING:
    from napari_focusfuse.fusion.region import TileDone

REFRESH_MS = 170
"""Shortest time between two redraws of the growing layers: at most six a second."""


class GrowingResult(QObject):
    """Layers over a slide's layer; all methods belong to the window's thread.

    Parameters
    ----------
    viewer, slide_layer
        Where the layers go, and what they lie over.
    plan, provenance
        Of the fusion that fills them; a layer is made for each map that the provenance names.
    on_map
        Called with a map's name and its layer once that is in the viewer.
    """

    def __init__(
        self,
        viewer: Any,
        slide_layer: Any,
        plan: FusionPlan,
        provenance: Mapping[str, Any],
        on_map: Callable[[str, Any], None],
    ) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self._slide_layer, self._region = slide_layer, plan.region
        self._on_map = on_map
        fused, maps = _layer_data(slide_layer, plan, provenance)
        self._rgba = fused[0]
        self._values = {name: data[0] for name, data in maps.items()}
        self.fused: Any = add_layer(viewer, fused, slide_layer)
        """The fused layer, or None once the user removed it."""
        self.maps: dict[str, Any] = {}
        """The layers of its maps that are in the viewer, by the maps' names."""
        self._dirty = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._redraw)
        # Each in a turn of its own: building a layer's controls takes the window a while.
        in_turns(self, self._add_maps(maps))

    def _add_maps(self, maps: Mapping[str, LayerData]) -> Iterator[None]:
        for name, data in maps.items():
            viewer = self._viewer()
            if viewer is None or self._slide_layer is None or self.fused not in viewer.layers:
                return
            layer = add_layer(viewer, data, self._slide_layer)
            layer.metadata[KEY].update(_progress(self.fused))
            show_colour_bar(layer, name != MASK.name)
            self.maps[name] = layer
            self._on_map(name, layer)
            yield

    def add(self, tile: TileDone) -> None:
        """Copy one tile, and redraw unless that was done a moment ago."""
        place = _slices(tile.region, self._region)
        self._rgba[place][..., :3] = tile.image
        self._rgba[place][..., 3] = 255
        for name in tile.maps:
            self._values[name][place] = shown_map(name, tile.image, tile.maps)
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

    def mask_pixels(self) -> tuple[Any, Any] | None:
        """Return the (Y, X, 4) picture and the (Y, X) mask; None without one, or once removed."""
        mask = self._values.get(MASK.name)
        return None if self.fused is None or mask is None else (self._rgba, mask)

    def forget(self, layer: Any) -> None:
        """Let go of a layer that was removed from the viewer, so that its slide can be closed."""
        if layer is self._slide_layer:
            self._slide_layer = None
        if layer is self.fused:
            self.fused = None
        self.maps = {name: kept for name, kept in self.maps.items() if kept is not layer}

    def _layers(self) -> list[Any]:
        return [*([] if self.fused is None else [self.fused]), *self.maps.values()]

    def _redraw(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        for layer in self._layers():
            layer.refresh(extent=False, thumbnail=False)
        self._timer.start()


def _layer_data(
    slide_layer: Any, plan: FusionPlan, provenance: Mapping[str, Any]
) -> tuple[LayerData, dict[str, LayerData]]:
    region, name = plan.region, slide_layer.name
    factors = level_factors(slide_layer)[plan.level]
    axes = overlay_axes(layer_axes(slide_layer), factors, (region.y, region.x))
    noted: dict[str, Any] = {
        "provenance": provenance,
        "mpp": plan.mpp,
        "complete": False,
        "slide_id": ours(slide_layer).get("slide_id"),
    }
    planes = offset_names(plan.slide, plan.planes)
    maps = {
        which: map_layer(region, axes, which, about, name=_map_name(which, about, name), **noted)
        for which, about in provenance["maps"].items()
    }
    return fused_layer(region, axes, name=f"fused {planes} · {name}", **noted), maps


def _map_name(which: str, about: Mapping[str, Any], slide: str) -> str:
    """Return what a map is, what its values are counted in, and of which slide it is."""
    counted = "" if which == MASK.name else f" ({about['unit'] or '0 to 255'})"
    return f"{str(about['title']).lower()}{counted} · {slide}"


def _progress(layer: Any) -> dict[str, Any]:
    noted = ours(layer)
    return {"provenance": noted["provenance"], "complete": noted["complete"]}


def _slices(part: Region, whole: Region) -> tuple[slice, slice]:
    """Return where ``part`` lies in an array of ``whole``."""
    rows = slice(part.y - whole.y, part.stop_y - whole.y)
    return rows, slice(part.x - whole.x, part.stop_x - whole.x)
