"""Print the longest stretch in which the window could not answer, with and without a fusion.

A timer in the window's thread should tick every 5 ms; the longest time between two ticks is what
a user would feel.  The same panning is done alone and while the view is being fused.

Usage: python benchmarks/window.py [--method argmax] [--seconds 12]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_focusfuse.widgets._compat import camera

TICK_MS = 5


class Heartbeat:
    """Notes when the window's thread was free."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self._timer = QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(lambda: self.ticks.append(time.perf_counter()))
        self._timer.start()

    def gaps_ms(self) -> np.ndarray:
        """Return the times between ticks so far, and start anew."""
        gaps = np.diff(np.array(self.ticks)) * 1000
        self.ticks.clear()
        return gaps


def work(seconds: float, each: Callable[[float], None] | None = None) -> None:
    """Let the window work; ``each`` is called with the time at about 20 Hz."""
    start = last = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        QApplication.processEvents()
        if each is not None and now - last > 0.05:
            last = now
            each(now - start)
        time.sleep(0.001)


def report(title: str, gaps: np.ndarray) -> float:
    print(
        f"{title:<34} longest {gaps.max():6.0f} ms   99 % {np.percentile(gaps, 99):5.0f} ms   "
        f"median {np.median(gaps):4.0f} ms"
    )
    return float(gaps.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="argmax")
    parser.add_argument("--seconds", type=float, default=12.0)
    options = parser.parse_args()

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    viewer.open_sample("napari-focusfuse", "synthetic_smear")
    heart = Heartbeat()
    work(1)
    heart.gaps_ms()
    _, dock = viewer.window.add_plugin_dock_widget("napari-focusfuse", "FocusFuse")
    work(8)
    report("opening the dock, finding the device", heart.gaps_ms())
    dock.header.choose_method(options.method)

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
        print(dock.fuse_tab.status.plain)
        dock.fuse_tab.fuse_or_cancel()
        while dock.job.state != "idle":
            work(0.2, pan)
        fusing = report(title, heart.gaps_ms())
        print(f"{'':<34} {dock.job.total} tiles in {time.perf_counter() - start:.1f} s")
        print(f"{'':<34} added by the job: {fusing - alone:.0f} ms {dock.job.error}")
    viewer.close()


if __name__ == "__main__":
    main()
