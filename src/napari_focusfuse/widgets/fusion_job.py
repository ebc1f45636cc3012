"""The fusion that is running, and what it left in the viewer; outlives the dock that shows it."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import QObject, Signal
from superqt.utils import create_worker

from napari_focusfuse.fusion.catalogue import blur_detector_info
from napari_focusfuse.fusion.maps import load_fusion
from napari_focusfuse.fusion.method import MASK, FusionError
from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.layer_metadata import blurred_fraction, map_kind, on_white
from napari_focusfuse.plane_registration import stayed
from napari_focusfuse.plane_transform import describe_briefly
from napari_focusfuse.registered_slide import registered
from napari_focusfuse.slide import FocusFuseError, UInt8Image
from napari_focusfuse.writer import write_image

from ._compat import image_layers, unwrapped
from .growing_result import GrowingResult
from .slide_source import ours

if TYPE_CHECKING:
    from napari_focusfuse.fusion.region import Fusion, TileDone

State = Literal["idle", "running", "cancelling"]

STOP_SECONDS = 60.0
"""Longest wait for the tile in hand when the window closes."""


def fuse_in_worker(
    plan: FusionPlan,
    device: str,
    maps: Collection[str] = (),
    mask_model: Path | None = None,
    register: bool = False,
) -> Generator[dict[str, Any] | TileDone, None, Fusion]:
    """Load the method and fuse; runs in the worker thread, the only one that may import torch.

    Parameters
    ----------
    maps
        Names of the maps that come with it; a mask is left out where no blur model is shipped.
    mask_model
        File of the blur model that makes the mask; None: the shipped one.
    register
        Whether the slide's planes are moved onto the middle one first.

    Yields
    ------
    The provenance once the method is loaded, then each finished tile.
    """
    import torch

    from napari_focusfuse.fusion.region import fusion_provenance, run_fusion

    # One core is left to the window: with all of them busy it would stutter.
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    try:
        if register:
            plan = _registered(plan)
        model = None if mask_model is None else str(mask_model)
        names = [
            name for name in maps if name != MASK.name or blur_detector_info(model) is not None
        ]
        method, mappers = load_fusion(plan, names, device, model)
        yield fusion_provenance(plan, method, mappers)
        return (yield from run_fusion(plan, method, mappers))
    except FocusFuseError:
        raise
    except RuntimeError as error:
        # The worker class takes a bare RuntimeError for its own death and would say nothing.
        raise FusionError(f"Fusing failed: {error}") from error


def _registered(plan: FusionPlan) -> FusionPlan:
    """Return a plan for the same planes, each moved onto the middle one."""
    slide = registered(plan.slide)
    return replace(plan, slide=slide, warnings=(*plan.warnings, *stayed(slide.transforms)))


def save_in_worker(
    path: str,
    rgba: UInt8Image,
    mpp: tuple[float, float] | None,
    provenance: dict[str, Any],
) -> str:
    """Write a fused layer and return its path; encoding takes too long for the window's thread."""
    write_image(path, on_white(rgba), mpp=mpp, provenance=provenance, overwrite=True)
    return path


def save_layer(
    layer: Any, path: str, saved: Callable[[str], None], failed: Callable[[Exception], None]
) -> None:
    """Write a fused layer in a worker; then one of the functions is told the path or the error."""
    noted = ours(layer)
    create_worker(
        save_in_worker,
        path,
        layer.data,
        noted["mpp"],
        noted["provenance"],
        _connect={"returned": saved, "errored": failed},
    )


class FusionJob(QObject):
    """One viewer's fusions: at most one runs, its layers grow while it does.

    All methods belong to the window's thread.
    """

    changed = Signal()
    """The state, the progress, a message or the result has changed."""

    map_shown = Signal(str, bool)
    """A map, such as the blur mask, was shown or hidden, by whatever means."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(unwrapped(viewer))
        self.state: State = "idle"
        self.device = "auto"
        self.done = self.total = 0
        self.error = ""
        """Why the last fusion failed, in one sentence; empty if it did not."""
        self.summary = ""
        """What the last fusion gave, in one line."""
        self.shown_maps: set[str] = set()
        """Names of the maps the user wants to see."""
        self.mask_model: Path | None = None
        """The blur model the user wants the mask from; None: the shipped one."""
        self.register = False
        """Whether the user wants the planes moved onto the middle one first."""
        self._plan: FusionPlan | None = None
        self._provenance: dict[str, Any] = {}
        self._result: GrowingResult | None = None
        self._slide_layer: Any = None
        self._worker: Any = None
        self._seconds: dict[str, float] = {}
        self._last_tile = 0.0
        viewer.layers.events.removed.connect(self._on_layer_removed)

    # ------------------------------------------------------------------ what the dock asks

    @property
    def fused(self) -> Any:
        """The last fused layer, or None."""
        return None if self._result is None else self._result.fused

    @property
    def mask(self) -> Any:
        """The layer of its blur mask, or None."""
        return self.map(MASK.name)

    def map(self, name: str) -> Any:
        """Return the layer of one of its maps, or None."""
        return None if self._result is None else self._result.maps.get(name)

    def seconds_per_tile(self, method: str) -> float | None:
        """Return the time of a tile of this method, as measured, or None."""
        return self._seconds.get(method)

    @property
    def tile_seconds(self) -> float | None:
        """Time of a tile of the fusion that is running, as measured, or None."""
        return None if self._plan is None else self.seconds_per_tile(self._plan.info.name)

    def start(self, plan: FusionPlan, layer: Any, maps: Collection[str] = (MASK.name,)) -> None:
        """Start to fuse over a slide's layer, with maps; nothing happens while a fusion runs."""
        if self.state != "idle":
            return
        self._plan, self._slide_layer = plan, unwrapped(layer)
        self._result = None
        self.error = self.summary = ""
        self.done, self.total = 0, len(plan.tiles)
        self.state = "running"
        self._worker = create_worker(
            fuse_in_worker,
            plan,
            self.device,
            tuple(maps),
            self.mask_model,
            self.register,
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

    def show_map(self, name: str, shown: bool) -> None:
        """Show or hide this map of these and later fusions."""
        if shown:
            self.shown_maps.add(name)
        else:
            self.shown_maps.discard(name)
        for layer in self._layers_of_kind(map_kind(name)):
            if ours(layer).get("map") == name:
                layer.visible = shown
        self.map_shown.emit(name, shown)

    def blink(self) -> None:
        """Hide what is fused, or show it again."""
        if self.fused is not None:
            shown = not self.fused.visible
            for layer in self._layers_of_kind("fused"):
                layer.visible = shown

    def save(self, path: str) -> None:
        """Write the last fused layer in a worker; an existing file is replaced."""
        if self.fused is None:
            return
        self.error = ""
        save_layer(self.fused, path, self._on_saved, self._on_save_error)

    def _layers_of_kind(self, kind: str) -> list[Any]:
        viewer = self._viewer()
        layers = [] if viewer is None else image_layers(viewer)
        return [layer for layer in layers if ours(layer).get("kind") == kind]

    # ------------------------------------------------------------------ what the worker tells

    def _on_yielded(self, step: dict[str, Any] | TileDone) -> None:
        if isinstance(step, dict):
            self._provenance = step
            self._last_tile = time.perf_counter()
        else:
            self._on_tile(step)

    def _on_tile(self, tile: TileDone) -> None:
        self._measure(tile)
        if self._result is None and self.state == "running":
            self._result = self._new_result()
        if self._result is not None:
            self._result.add(tile)
        self.changed.emit()

    def _measure(self, tile: TileDone) -> None:
        assert self._plan is not None  # a tile comes from a plan
        now, name = time.perf_counter(), self._plan.info.name
        seconds, known = now - self._last_tile, self._seconds.get(name)
        self._seconds[name] = seconds if known is None else 0.7 * known + 0.3 * seconds
        self._last_tile, self.done = now, tile.done

    def _new_result(self) -> GrowingResult | None:
        viewer, plan = self._viewer(), self._plan
        if viewer is None or plan is None or self._slide_layer not in viewer.layers:
            return None
        return GrowingResult(viewer, self._slide_layer, plan, self._provenance, self._on_map_added)

    def _on_returned(self, fusion: Fusion) -> None:
        if self._result is not None:
            self._result.complete(fusion.provenance)
        if "registration" in fusion.provenance:
            self.summary = describe_briefly(fusion.provenance["registration"])

    def _on_error(self, error: Exception) -> None:
        # A sentence of ours stands alone; anything else is a defect, and its kind helps to find it.
        known = isinstance(error, FocusFuseError)
        self.error = str(error) if known else f"{type(error).__name__}: {error}"

    def _on_finished(self) -> None:
        self.state = "idle"
        self._worker = self._plan = None
        if self._result is not None:
            self._result.finish()
            pixels = self._result.mask_pixels()
            if pixels is not None:
                create_worker(
                    blurred_fraction,
                    *pixels,
                    _connect={"returned": self._on_blurred, "errored": self._on_error},
                )
        self.changed.emit()

    def _on_blurred(self, fraction: float | None) -> None:
        blurred = (
            "no foreground in the fused region"
            if fraction is None
            else f"{100 * fraction:.0f} % of the foreground was blurred in the slider's layer"
        )
        self.summary = f"{blurred} · {self.summary}" if self.summary else blurred
        self.changed.emit()

    def _on_saved(self, path: str) -> None:
        self.summary = f"saved {Path(path).name}"
        self.changed.emit()

    def _on_save_error(self, error: Exception) -> None:
        self._on_error(error)
        self.changed.emit()

    # ------------------------------------------------------------------ what the viewer tells

    def _on_map_added(self, name: str, layer: Any) -> None:
        layer.visible = name in self.shown_maps
        layer.events.visible.connect(lambda event: self._on_map_visible(name, layer))

    def _on_map_visible(self, name: str, layer: Any) -> None:
        if self.map(name) is layer and layer.visible != (name in self.shown_maps):
            self.show_map(name, bool(layer.visible))

    def _on_layer_removed(self, event: Any) -> None:
        removed = unwrapped(event.value)
        if removed is self.fused or removed is self._slide_layer:
            self.cancel()
        if removed is self._slide_layer:
            self._slide_layer = None
        if self._result is not None:
            self._result.forget(removed)
        self.changed.emit()


_JOBS: weakref.WeakKeyDictionary[Any, FusionJob] = weakref.WeakKeyDictionary()


def fusion_job(viewer: Any) -> FusionJob:
    """Return the viewer's job; the same one whenever the dock is opened again."""
    viewer = unwrapped(viewer)
    job = _JOBS.get(viewer)
    if job is None:
        job = _JOBS[viewer] = FusionJob(viewer)
    return job
