"""Several fusions over one slide, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_focusfuse.fusion.plan import FusionPlan

from .fusion_job import FusionJob
from .slide_source import ours


@dataclass(frozen=True)
class Step:
    """One of the fusions."""

    plan: FusionPlan
    title: str
    """What tells it from the others."""
    name: str
    """Of its layer."""
    maps: tuple[str, ...] = ()
    """Names of the maps that come with it."""


class FusionSeries(QObject):
    """Hands fusions to a viewer's job one by one; cancelling the job ends the series.

    Parameters
    ----------
    parent, job
        Whose series it is, and what fuses.
    """

    changed = Signal()
    """Another fusion has begun, or the last one is over."""
    fused = Signal(object, object)
    """The :class:`Step` that is done, and its layer."""
    ended = Signal(bool)
    """The series is over; whether all of it was done."""

    def __init__(self, parent: QObject, job: FusionJob) -> None:
        super().__init__(parent)
        self._job = job
        self._steps: tuple[Step, ...] = ()
        self._at = 0
        self._slide_layer: Any = None
        job.changed.connect(self._on_job_changed)

    @property
    def running(self) -> bool:
        """Whether one of its fusions is at work."""
        return bool(self._steps)

    @property
    def progress(self) -> str:
        """Which fusion is at work, and of how many; empty if none is."""
        if not self._steps:
            return ""
        return f"{self._at + 1} of {len(self._steps)}: {self._steps[self._at].title}"

    def start(self, steps: Sequence[Step], layer: Any) -> None:
        """Fuse over a slide's layer; nothing happens while a fusion runs."""
        if self._job.state == "idle" and not self.running and steps:
            self._steps, self._at, self._slide_layer = tuple(steps), 0, layer
            self._begin()

    def _begin(self) -> None:
        step = self._steps[self._at]
        self._job.start(step.plan, self._slide_layer, step.maps)
        self.changed.emit()

    def _on_job_changed(self) -> None:
        if not self._steps or self._job.state != "idle":
            return
        step, layer = self._steps[self._at], self._job.fused
        if layer is None or not ours(layer)["complete"]:  # cancelled, failed, or taken away
            self._end(complete=False)
            return
        layer.name = step.name
        self._at += 1
        self.fused.emit(step, layer)
        if self._at < len(self._steps):
            self._begin()
        else:
            self._end(complete=True)

    def _end(self, *, complete: bool) -> None:
        self._steps, self._slide_layer = (), None
        self.changed.emit()
        self.ended.emit(complete)
