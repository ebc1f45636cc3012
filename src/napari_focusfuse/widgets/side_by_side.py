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
from .slide_source import ours

MOST = 4
"""Views that still are large enough beside each other."""

GAP = 4
"""Pixels of the screen between them."""


class SideBySide(QObject):
    """Hands plans to a viewer's job one by one, and shows their layers in napari's grid.

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
        self._waiting: list[FusionPlan] = []
        self._plan: FusionPlan | None = None
        self._slide_layer: Any = None
        self._results: list[weakref.ref[Any]] = []
        self._shown_before: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._grid_before: dict[str, Any] = {}
        self._zoomed = 1.0
        self.shown = False
        """Whether the views are beside each other now."""
        job.changed.connect(self._on_job_changed)
        grid(viewer).events.enabled.connect(self._on_grid)

    @property
    def running(self) -> bool:
        """Whether one of the methods is at work, or waits."""
        return self._plan is not None

    @property
    def progress(self) -> str:
        """Which method is at work, and how many there are; empty if none is."""
        if self._plan is None:
            return ""
        number = len(self._results) + 1
        return f"{number} of {number + len(self._waiting)}: {self._plan.info.title}"

    def start(self, plans: Sequence[FusionPlan], layer: Any) -> None:
        """Fuse over a slide's layer by each plan; nothing happens while a fusion runs."""
        if self._job.state != "idle" or self.running:
            return
        self.back()
        self._results = []
        self._waiting, self._slide_layer = list(plans), layer
        self._next()

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

    # ------------------------------------------------------------------ while it runs

    def _next(self) -> None:
        self._plan = self._waiting.pop(0)
        self._job.start(self._plan, self._slide_layer, maps=())
        self.changed.emit()

    def _on_job_changed(self) -> None:
        if self._plan is None or self._job.state != "idle":
            return
        fused = self._job.fused
        if fused is None or not ours(fused)["complete"]:  # cancelled, failed, or taken away
            self._end()
            return
        fused.name = (
            f"{self._plan.info.title} · {offset_names(self._plan.slide, self._plan.planes)}"
        )
        self._results.append(weakref.ref(fused))
        if self._waiting:
            self._next()
        else:
            self._end()
            self._show()

    def _end(self) -> None:
        self._plan = self._slide_layer = None
        self._waiting = []
        self.changed.emit()

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


def side_by_side(viewer: Any, job: FusionJob) -> SideBySide:
    """Return the viewer's comparison of methods; the same one whenever the dock is opened again."""
    return job.findChild(SideBySide) or SideBySide(viewer, job)
