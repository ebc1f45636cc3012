"""Print the longest stretch in which the window could not answer, with and without a fusion.

A timer in the window's thread should tick every 5 ms; the longest time between two ticks is what
a user would feel, and the processor time the thread took in it is the window's own share, whatever
else the machine does.  The same panning is done alone and while the view is being fused.  Before
that, a generated slide of 100,000 x 86,000 x 11 is opened and stepped through, and the tabs Whole
slide and Train are opened for the first time, then a run in it.

Usage: python benchmarks/window.py [--method argmax] [--seconds 12] [--only tabs]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_focusfuse.layer_metadata import slide_layers
from napari_focusfuse.slide import FocalPlane, Level, Region, Slide, UInt8Image
from napari_focusfuse.training_config import TrainingConfig
from napari_focusfuse.training_run import TrainingRun
from napari_focusfuse.widgets._compat import camera
from napari_focusfuse.widgets.fusion_job import FusionJob
from napari_focusfuse.widgets.known_runs import FOLDER_VARIABLE

TICK_MS = 5


class Heartbeat:
    """Notes when the window's thread was free."""

    def __init__(self) -> None:
        self.ticks: list[tuple[float, float]] = []
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        self.ticks.append((time.perf_counter(), time.thread_time()))

    def gaps_ms(self) -> np.ndarray:
        """Return the (N, 2) time and processor time between ticks so far, and start anew."""
        gaps = np.diff(np.array(self.ticks), axis=0) * 1000
        self.ticks.clear()
        return gaps


def own_callbacks() -> list[float]:
    """Return a list that grows by the duration in ms of each callback of the fusion job."""
    durations: list[float] = []

    def timed(method: Callable[..., None]) -> Callable[..., None]:
        def call(self: FusionJob, *arguments: Any) -> None:
            start = time.thread_time()
            method(self, *arguments)
            durations.append(1000 * (time.thread_time() - start))

        return call

    for name in ("_on_yielded", "_on_finished"):
        setattr(FusionJob, name, timed(getattr(FusionJob, name)))
    return durations


def work(seconds: float, each: Callable[[float], None] | None = None) -> None:
    """Let the window work; ``each`` is called with the time at about 20 Hz."""
    start = last = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        QApplication.processEvents()
        if each is not None and now - last > 0.05:
            last = now
            each(now - start)
        time.sleep(0.001)


class Generated(Slide):
    """A whole slide of which a tile takes 3 ms to read, as from a disk."""

    format = "generated"

    def __init__(self) -> None:
        self.reads = 0
        super().__init__(
            Path("generated"),
            planes=[FocalPlane(i, f"layer {i - 5:+d}", 2.7 * (i - 5)) for i in range(11)],
            levels=[
                Level(100_000 >> n, 86_000 >> n, (float(1 << n), float(1 << n))) for n in range(9)
            ],
            mpp=(0.243, 0.243),
        )

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        self.reads += 1
        time.sleep(0.003)
        return np.full((region.height, region.width, 3), 200 + plane.index, np.uint8)


def whole_slide(viewer: napari.Viewer) -> None:
    """Print how long opening a whole slide and stepping through it takes."""
    slide = Generated()
    layers: list[Any] = []

    def open_it() -> None:
        for data, keywords, _ in slide_layers(slide):
            layers.append(viewer.add_image(data, **keywords))

    timed("opening a whole slide", slide, open_it)
    view = camera(viewer)
    timed("zooming to full size", slide, lambda: setattr(view, "zoom", 1 / 0.243))
    step = viewer.dims.current_step[0]
    timed("a step in z", slide, lambda: viewer.dims.set_current_step(0, step + 1))
    timed("the step back", slide, lambda: viewer.dims.set_current_step(0, step))
    viewer.layers.clear()


def timed(title: str, slide: Generated, act: Callable[[], None]) -> None:
    before, start = slide.reads, time.perf_counter()
    act()
    QApplication.processEvents()
    seconds = time.perf_counter() - start
    print(f"{title:<34} {1000 * seconds:6.0f} ms, {slide.reads - before} tiles read")
    work(0.5)


def report(title: str, gaps: np.ndarray) -> float:
    """Print the gaps; return the longest."""
    felt, own = gaps[:, 0], gaps[:, 1]
    print(
        f"{title:<34} longest {felt.max():6.0f} ms   99 % {np.percentile(felt, 99):5.0f} ms   "
        f"median {np.median(felt):4.0f} ms   processor time: longest {own.max():4.0f} ms"
    )
    return float(felt.max())


def tabs(dock: Any, heart: Heartbeat) -> None:
    """Print what the first look at the larger tabs takes, and that at a run."""
    heart.gaps_ms()
    dock.choose_tab("Whole slide")
    work(4)
    report("first opening of Whole slide", heart.gaps_ms())
    dock.choose_tab("Train")
    work(4)
    report("first opening of the Train tab", heart.gaps_ms())
    with tempfile.TemporaryDirectory() as folder:
        run = written_run(Path(folder) / "run")
        heart.gaps_ms()
        dock.train_tab.job.open(run.folder)
        work(4)
        report("first run opened in it", heart.gaps_ms())
        dock.train_tab.job.leave()
    dock.choose_tab("Fuse")
    work(1)


def written_run(folder: Path) -> TrainingRun:
    """Write a run of 20,000 steps as its trainer would have left it."""
    run = TrainingRun(folder)
    run.create(TrainingConfig("tiny", "Tiny", "swift", {"planes": 1}, steps=20_000))
    run.log({"step": 0, "event": "started", "text": ""})
    for step in range(20, 20_000, 20):
        run.log({"step": step, "loss": 1 / step, "seconds": step / 10, "images_per_s": 12.0})
        if step % 500 == 0:
            scores = {"error": 0.1, "ssim": 1 - 1 / step, "input_ssim": 0.8}
            run.log({"step": step, "validation": scores})
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="argmax")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--only", choices=["tabs"], help="measure the tabs' opening only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER_VARIABLE] = folder  # the user's list of runs stays as it is
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Open the window, measure and print."""

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    work(1)
    if options.only is None:
        whole_slide(viewer)
    viewer.open_sample("napari-focusfuse", "synthetic_smear")
    heart = Heartbeat()
    work(1)
    heart.gaps_ms()
    _, dock = viewer.window.add_plugin_dock_widget("napari-focusfuse", "FocusFuse")
    work(8)
    report("opening the dock, finding the device", heart.gaps_ms())
    tabs(dock, heart)
    if options.only is None:
        fusions(viewer, dock, heart, options)
    viewer.close()


def fusions(viewer: Any, dock: Any, heart: Heartbeat, options: argparse.Namespace) -> None:
    """Pan alone, then while the view is fused, twice."""
    dock.header.choose_method(options.method)

    callbacks = own_callbacks()
    view = camera(viewer)
    centre = np.asarray(view.center, dtype=float)

    def pan(elapsed: float) -> None:
        moved = centre.copy()
        moved[-2:] += 20 * np.array([np.sin(2 * elapsed), np.cos(2 * elapsed)])
        view.center = tuple(moved)

    work(2, pan)
    heart.gaps_ms()
    work(options.seconds, pan)
    alone = report("panning alone", heart.gaps_ms())

    for title in ("panning, first fusion (loads torch)", "panning, second fusion"):
        start = time.perf_counter()
        dock.fuse_tab.fuse_or_cancel()
        while dock.job.state != "idle":
            work(0.2, pan)
        fusing = report(title, heart.gaps_ms())
        print(f"{'':<34} {dock.job.total} tiles in {time.perf_counter() - start:.1f} s")
        print(f"{'':<34} added by the job: {fusing - alone:.0f} ms {dock.job.error}")
        print(
            f"{'':<34} the job's own callbacks, processor time: longest {max(callbacks):.0f} ms, "
            f"median {np.median(callbacks):.0f} ms"
        )
        callbacks.clear()


if __name__ == "__main__":
    main()
