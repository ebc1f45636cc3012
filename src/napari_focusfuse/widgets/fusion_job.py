"""The fusion that is running, and what it left in the viewer; outlives the dock that shows it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_focusfuse.fusion.catalogue import load_blur_detector, load_method
from napari_focusfuse.fusion.method import FusionError
from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.fusion.planes import offset_names
from napari_focusfuse.layer_metadata import (
    KEY,
    blurred_fraction,
    fused_layer,
    mask_layer,
    overlay_axes,
)
from napari_focusfuse.slide import FocusFuseError, Region

from ._compat import unwrapped
from ._view import add_layer, layer_axes, level_factors
from .slide_source import ours

if TYPE_CHECKING:
    from napari_focusfuse.fusion.region import Fusion, TileDone

State = Literal["idle", "running", "cancelling"]

REFRESH_MS = 170
"""Shortest time between two redraws of the growing layer: at most six a second."""

STOP_SECONDS = 60.0
"""Longest wait for the tile in hand when the window closes."""


def fuse_in_worker(
    plan: FusionPlan, device: str
) -> Generator[dict[str, Any] | TileDone, None, Fusion]:
    """Load the method and fuse; runs in the worker thread, the only one that may import torch.

    Yields
    ------
    The provenance once the method is loaded, then each finished tile.
    """
    from napari_focusfuse.fusion.region import fusion_provenance, run_fusion

    try:
        method = load_method(plan.info, device)
        detector = load_blur_detector(device)
        yield fusion_provenance(plan, method, detector is not None)
        return (yield from run_fusion(plan, method, detector))
    except FocusFuseError:
        raise
    except RuntimeError as error:
        # The worker class takes a bare RuntimeError for its own death and would say nothing.
        raise FusionError(f"Fusing failed: {error}") from error


class FusionJob(QObject):
    """One viewer's fusions: at most one runs, its layers grow while it does.

    All methods belong to the window's thread.
    """

    changed = Signal()
    """The state, the progress, a message or the result has changed."""

    mask_shown = Signal(bool)
    """The blur mask was shown or hidden, by whatever means."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(unwrapped(viewer))
        self.state: State = "idle"
        self.device = "auto"
        self.done = self.total = 0
        self.error = ""
        """Why the last fusion failed, in one sentence; empty if it did not."""
        self.result = ""
        """What the last fusion gave, in one line."""
        self.plan: FusionPlan | None = None
        self.fused: Any = None
        """The last fused layer, while it is in the viewer."""
        self.mask: Any = None
        """Its blur mask, while it is in the viewer."""
        self.want_mask = False
        self._seconds: dict[str, float] = {}
        self._worker: Any = None
        self._slide_layer: Any = None
        self._provenance: dict[str, Any] = {}
        self._last_tile = 0.0
        self._dirty = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._redraw)
        viewer.layers.events.removed.connect(self._on_layer_removed)

    # ------------------------------------------------------------------ what the dock asks

    def seconds_per_tile(self, method: str) -> float | None:
        """Return the time of a tile of this method, as measured, or None."""
        return self._seconds.get(method)

    def start(self, plan: FusionPlan, layer: Any) -> None:
        """Start to fuse over a slide's layer; nothing happens while a fusion runs."""
        if self.state != "idle":
            return
        self.plan, self._slide_layer = plan, unwrapped(layer)
        self.fused = self.mask = None
        self.error = self.result = ""
        self.done, self.total = 0, len(plan.tiles)
        self._last_tile = time.perf_counter()
        self.state = "running"
        self._worker = create_worker(
            fuse_in_worker,
            plan,
            self.device,
            _connect={
                "yielded": self._on_yielded,
                "returned": self._on_returned,
                "errored": self._on_error,
                "finished": self._on_finished,
            },
        )
        self.changed.emit()

    def cancel(self) -> None:
        """Ask the worker to end with the tile in hand; what is done stays."""
        if self.state == "running":
            self.state = "cancelling"
            self._worker.quit()
            self.changed.emit()

    def stop(self) -> None:
        """Cancel, and wait for the tile in hand."""
        self.cancel()
        worker, until = self._worker, time.monotonic() + STOP_SECONDS
        while worker is not None and worker.is_running and time.monotonic() < until:
            time.sleep(0.01)

    def show_mask(self, shown: bool) -> None:
        """Show or hide the blur mask of this and later fusions."""
        self.want_mask = shown
        if self.mask is not None:
            self.mask.visible = shown
        self.mask_shown.emit(shown)

    def blink(self) -> None:
        """Hide the fused layer, or show it again."""
        if self.fused is not None:
            self.fused.visible = not self.fused.visible

    # ------------------------------------------------------------------ what the worker tells

    def _on_yielded(self, step: dict[str, Any] | TileDone) -> None:
        if isinstance(step, dict):
            self._provenance = step
            self._last_tile = time.perf_counter()
        else:
            self._on_tile(step)

    def _on_tile(self, tile: TileDone) -> None:
        self._measure(tile)
        if self.state == "running" and self.fused is None:
            self._add_layers(tile.mask is not None)
        if self.fused is None:
            return
        self._copy(tile)
        self._dirty = True
        if not self._timer.isActive():
            self._redraw()
        self.changed.emit()

    def _measure(self, tile: TileDone) -> None:
        assert self.plan is not None  # a tile comes from a plan
        now, tiles = time.perf_counter(), max(tile.done - self.done, 1)
        seconds = (now - self._last_tile) / tiles
        name, known = self.plan.info.name, self._seconds.get(self.plan.info.name)
        self._seconds[name] = seconds if known is None else 0.7 * known + 0.3 * seconds
        self._last_tile, self.done = now, tile.done

    def _add_layers(self, with_mask: bool) -> None:
        viewer, plan, slide_layer = self._viewer(), self.plan, self._slide_layer
        if viewer is None or plan is None or slide_layer not in viewer.layers:
            return
        factors = level_factors(slide_layer)[plan.level]
        origin = plan.region.y, plan.region.x
        axes = overlay_axes(layer_axes(slide_layer), factors, origin)
        noted: dict[str, Any] = {"provenance": self._provenance, "mpp": plan.mpp, "complete": False}
        noted["slide_id"] = ours(slide_layer).get("slide_id")
        name = f"fused {offset_names(plan.slide, plan.planes)} · {slide_layer.name}"
        self.fused = add_layer(
            viewer, fused_layer(plan.region, axes, name=name, **noted), slide_layer
        )
        if with_mask:
            data = mask_layer(plan.region, axes, name=f"blur mask · {slide_layer.name}", **noted)
            self.mask = add_layer(viewer, data, slide_layer)
            self.mask.visible = self.want_mask
            self.mask.events.visible.connect(self._on_mask_visible)

    def _copy(self, tile: TileDone) -> None:
        assert self.plan is not None  # a tile comes from a plan
        place = _slices(tile.region, self.plan.region)
        self.fused.data[place][..., :3] = tile.image
        self.fused.data[place][..., 3] = 255
        if self.mask is not None and tile.mask is not None:
            self.mask.data[place] = tile.mask

    def _redraw(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        for layer in (self.fused, self.mask):
            if layer is not None:
                layer.refresh(extent=False, thumbnail=False)
        self._timer.start()

    def _on_returned(self, fusion: Fusion) -> None:
        for layer in (self.fused, self.mask):
            if layer is not None:
                layer.metadata[KEY].update(provenance=fusion.provenance, complete=True)

    def _on_error(self, error: Exception) -> None:
        # A sentence of ours stands alone; anything else is a defect, and its kind helps to find it.
        known = isinstance(error, FocusFuseError)
        self.error = str(error) if known else f"Fusing failed: {type(error).__name__}: {error}"

    def _on_finished(self) -> None:
        self.state = "idle"
        self._worker = None
        self._dirty = False
        for layer in (self.fused, self.mask):
            if layer is not None:
                layer.refresh(extent=False)
        if self.fused is not None and self.mask is not None:
            create_worker(
                blurred_fraction,
                self.fused.data,
                self.mask.data,
                _connect={"returned": self._on_blurred, "errored": self._on_error},
            )
        self.changed.emit()

    def _on_blurred(self, fraction: float | None) -> None:
        self.result = (
            "no foreground in the fused region"
            if fraction is None
            else f"{100 * fraction:.0f} % of the foreground is blurred in the slider's layer"
        )
        self.changed.emit()

    # ------------------------------------------------------------------ what the viewer tells

    def _on_mask_visible(self, event: Any = None) -> None:
        if self.mask is not None:
            self.want_mask = bool(self.mask.visible)
            self.mask_shown.emit(self.want_mask)

    def _on_layer_removed(self, event: Any) -> None:
        removed = unwrapped(event.value)
        if removed is self.mask:
            self.mask = None
        elif removed is self.fused:
            self.fused = None
            self.cancel()
        elif removed is self._slide_layer:
            self._slide_layer = None
            self.cancel()
        self.changed.emit()


def _slices(part: Region, whole: Region) -> tuple[slice, slice]:
    """Return where ``part`` lies in an array of ``whole``."""
    rows = slice(part.y - whole.y, part.stop_y - whole.y)
    return rows, slice(part.x - whole.x, part.stop_x - whole.x)


_JOBS: weakref.WeakKeyDictionary[Any, FusionJob] = weakref.WeakKeyDictionary()


def fusion_job(viewer: Any) -> FusionJob:
    """Return the viewer's job; the same one whenever the dock is opened again."""
    viewer = unwrapped(viewer)
    job = _JOBS.get(viewer)
    if job is None:
        job = _JOBS[viewer] = FusionJob(viewer)
    return job
