"""The same view by several methods: fused one after the other, then shown beside each other."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.fusion.planes import offset_names

from ._compat import camera, grid, show_name, unwrapped, viewbox
from .fusion_job import FusionJob
from .fusion_series import FusionSeries, Step

MOST = 4
"""Views that still are large enough beside each other."""

GAP = 4
"""Pixels of the screen between them."""


class SideBySide(QObject):
    """Fuses a view by one method after the other, and shows the layers in napari's grid.

    All views of the grid have one camera.  Going back shows what was shown before, and leaves the
    layers where they are: over the slide, on top of each other.

    Parameters
    ----------
    viewer, job
        Where the layers are, and what fuses.
    """

    changed = Signal()
    """Another plan is being fused, or the grid was shown or left."""

    def __init__(self, viewer: Any, job: FusionJob) -> None:
        super().__init__(job)
        self._viewer = weakref.ref(unwrapped(viewer))
        self._job = job
        self.series = FusionSeries(self, job)
        self._results: list[weakref.ref[Any]] = []
        self._shown_before: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._grid_before: dict[str, Any] = {}
        self._zoomed = 1.0
        self.shown = False
        """Whether the views are beside each other now."""
        self.series.changed.connect(self.changed)
        self.series.fused.connect(self._on_fused)
        self.series.ended.connect(self._on_ended)
        grid(viewer).events.enabled.connect(self._on_grid)

    def start(self, plans: Sequence[FusionPlan], layer: Any) -> None:
        """Fuse over a slide's layer by each plan; nothing happens while a fusion runs."""
        if self._job.state == "idle" and not self.series.running:
            self.back()
            self._results = []
            self.series.start([_step(plan) for plan in plans], layer)

    def back(self) -> None:
        """Show one view again, as it was."""
        viewer = self._viewer()
        if not self.shown or viewer is None:
            return
        self.shown = False
        for name, value in self._grid_before.items():
            setattr(grid(viewer), name, value)
        camera(viewer).zoom /= self._zoomed
        for layer, visible in self._shown_before.items():
            layer.visible = visible
        for layer in self._layers():
            show_name(layer, False)
        self.changed.emit()

    def _on_fused(self, step: Step, layer: Any) -> None:
        self._results.append(weakref.ref(layer))

    def _on_ended(self, complete: bool) -> None:
        if complete:
            self._show()

    # ------------------------------------------------------------------ the views

    def _layers(self) -> list[Any]:
        """Return the results that are still in the viewer, in the order they were asked for."""
        viewer = self._viewer()
        found = [layer() for layer in self._results]
        return [layer for layer in found if viewer is not None and layer in viewer.layers]

    def _show(self) -> None:
        viewer, results = self._viewer(), self._layers()
        if viewer is None or not results:
            return
        # napari gives a place to each layer that is shown, and to no other.
        self._shown_before.clear()
        for layer in viewer.layers:
            self._shown_before[layer] = layer.visible
            layer.visible = layer in results
        for layer in results:
            show_name(layer, True)
        mode, before = grid(viewer), viewbox(viewer)
        # A positive stride begins with the layer at the bottom, which is the first one asked for.
        wanted = {"stride": 1, "shape": (-1, -1), "spacing": GAP, "enabled": True}
        self._grid_before = {name: getattr(mode, name) for name in wanted}
        for name, value in wanted.items():
            setattr(mode, name, value)
        after = viewbox(viewer)
        self._zoomed = min(after[0] / before[0], after[1] / before[1])
        camera(viewer).zoom *= self._zoomed
        self.shown = True
        self.changed.emit()

    def _on_grid(self, event: Any) -> None:
        """Follow napari's own button for the grid."""
        if self.shown and not event.value:
            self._grid_before["enabled"] = False
            self.back()


def _step(plan: FusionPlan) -> Step:
    title = plan.info.title
    return Step(plan, title, f"{title} · {offset_names(plan.slide, plan.planes)}")


def side_by_side(viewer: Any, job: FusionJob) -> SideBySide:
    """Return the viewer's comparison of methods; the same one whenever the dock is opened again."""
    return job.findChild(SideBySide) or SideBySide(viewer, job)
