"""Take the pictures of the documentation: the real window on the samples.

Usage: python scripts/make_screenshots.py [--out docs/images] [--method NAME] [--only NAME]

The picture of the Train tab is taken half way through a training: of the run named with ``--run``,
whoever trains it, else of a short one on the sample.

Needs a display; under Linux without one: ``xvfb-run -s "-screen 0 1600x1000x24" python ...``.
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
import tifffile
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_focusfuse import open_slide
from napari_focusfuse.sample_data import FOLDER
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.widgets._compat import camera
from napari_focusfuse.widgets.known_runs import FOLDER_VARIABLE

SIZE = 1440, 860
TIMEOUT = 600
LARGEST = 400_000
"""Bytes a picture may have in the repository."""
TALL = 980
"""Height of the window in which the pictures of a training are seen as well."""
LARGE, LEVELS = 6, 4
"""Of the slide that is fused whole: smears along each side, and coarser levels."""
SMEAR_MPP = 0.243
"""Of the smear, in micrometres per pixel."""
BESIDE = ("argmax", "evidence", "dtcwt", "swift")
"""Methods in the picture of four."""
SHORT_TRAINING = {"steps": 160, "validate_every": 10, "log_every": 2, "patches_per_slide": 60}


def work_until(condition: Callable[[], bool]) -> None:
    """Let the window work until something holds."""
    until = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("A step of the screenshots did not end; run it on an idle machine.")
        QApplication.processEvents()
        time.sleep(0.005)


def work(seconds: float) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    work_until(lambda: time.monotonic() > end)


def opened(sample: str, method: str | None) -> tuple[napari.Viewer, Any]:
    """Return a window with a sample and the dock, once the device is known."""
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    viewer.open_sample("napari-focusfuse", sample)
    _, dock = viewer.window.add_plugin_dock_widget("napari-focusfuse", "FocusFuse")
    if method is not None:
        dock.header.choose_method(method)
    work_until(lambda: dock.header.device_line.plain != "looking …")
    work(0.5)
    viewer.reset_view()
    work(0.5)
    return viewer, dock


def fuse(dock: Any) -> None:
    """Fuse what is in view and wait for all of it."""
    dock.fuse_tab.fuse_or_cancel()
    work_until(lambda: dock.job.state == "idle")
    if dock.job.mask is not None:
        work_until(lambda: bool(dock.job.summary))
    if dock.job.error:
        raise SystemExit(dock.job.error)
    work(0.5)


def save(viewer: napari.Viewer, path: Path) -> None:
    """Take the picture of the whole window."""
    work(0.5)
    pixels = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    for step in (1, 2, 4, 8, 16):
        Image.fromarray(_coarser(pixels, step)).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            return


def _coarser(pixels: UInt8Image, step: int) -> UInt8Image:
    """Return pixels whose values are multiples of a step, which is hardly seen and packs well.

    A palette would be smaller, but gives a colour scale colours that are not its own.
    """
    nearest = (pixels.astype(np.uint16) + step // 2) // step * step
    return np.minimum(nearest, 255).astype(np.uint8)


def half_way(dock: Any, folder: Path | None, runs: Path) -> None:
    """Show a training that is half done: a run that exists, or a short one on the open sample."""
    dock.choose_tab("Train")
    tab = dock.train_tab
    work_until(lambda: tab.ready)
    if folder is None:
        form = tab.form
        form.choose("three", "swift-three")
        form.advanced.expand(False)
        work_until(lambda: set(SHORT_TRAINING) <= set(form.settings.editors))
        for key, value in SHORT_TRAINING.items():
            form.settings.editors[key].setValue(value)
        form.folder_line.setText(str(runs / "smear-three"))
        form.start()
    else:
        tab.job.open(folder)
    work_until(lambda: tab.progress.plots.ready and tab.job.log is not None)
    work_until(lambda: tab.job.log.step >= tab.job.log.steps // 2 or tab.job.state == "ended")
    if tab.job.last_words:
        raise SystemExit(tab.job.last_words)
    work(1)


def take_training(options: argparse.Namespace) -> None:
    """Take the picture of the Train tab."""
    with tempfile.TemporaryDirectory() as runs:
        os.environ[FOLDER_VARIABLE] = runs  # the user's list of runs stays as it is
        viewer, dock = opened("synthetic_smear", options.method)
        viewer.window.resize(SIZE[0], TALL)
        half_way(dock, options.run, Path(runs))
        save(viewer, options.out / "train.png")
        job = dock.train_tab.job
        if options.run is None:
            job.stop()
            work_until(lambda: job.state == "ended")
        viewer.close()


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--method", help="default: what the dock offers first")
    parser.add_argument("--run", type=Path, help="folder of a training that is under way")
    takers = {
        "fusions": take_fusions,
        "depth": take_depth,
        "side-by-side": take_side_by_side,
        "whole-slide": take_whole_slide,
        "train": take_training,
    }
    parser.add_argument("--only", choices=list(takers), help="take these pictures only")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, take in takers.items():
        if options.only in (None, name):
            take(options)


def take_fusions(options: argparse.Namespace) -> None:
    """Take the pictures of the Fuse and Compare tabs."""
    viewer, dock = opened("algae", options.method)
    camera(viewer).zoom *= 2.2
    work(0.5)
    dock.fuse_tab.fuse_or_cancel()
    work_until(lambda: dock.job.done >= max(dock.job.total // 2, 1) or dock.job.state == "idle")
    save(viewer, options.out / "fusing.png")
    work_until(lambda: dock.job.state == "idle")
    save(viewer, options.out / "fused.png")
    viewer.close()

    viewer, dock = opened("synthetic_smear", options.method)
    camera(viewer).zoom *= 1.6
    work(0.5)
    fuse(dock)
    dock.fuse_tab.mask_box.setChecked(True)
    save(viewer, options.out / "mask.png")
    dock.fuse_tab.mask_box.setChecked(False)
    dock.choose_tab("Compare")
    dock.compare_tab.compare()
    work_until(lambda: dock.compare_tab.worker is None)
    save(viewer, options.out / "compare.png")
    dock.compare_tab.show_difference()
    save(viewer, options.out / "difference.png")
    viewer.close()


def take_depth(options: argparse.Namespace) -> None:
    """Take the picture of a depth map with its scale."""
    viewer, dock = opened("synthetic_smear", options.method or "evidence")
    camera(viewer).zoom *= 1.6
    dock.header.choose_planes("all")
    dock.fuse_tab.maps.boxes["depth"].setChecked(True)
    work(0.5)
    fuse(dock)
    save(viewer, options.out / "depth.png")
    viewer.close()


def take_side_by_side(options: argparse.Namespace) -> None:
    """Take the picture of four methods on the same view."""
    viewer, dock = opened("algae", options.method)
    camera(viewer).zoom *= 3
    work(0.5)
    tab = dock.fuse_tab
    tab.fold.expand(False)
    tab.methods.choose(*BESIDE)
    tab.fuse_beside_or_back()
    work_until(lambda: not tab.beside.series.running)
    if dock.job.error:
        raise SystemExit(dock.job.error)
    save(viewer, options.out / "side-by-side.png")
    viewer.close()


def take_whole_slide(options: argparse.Namespace) -> None:
    """Take the picture of a whole slide half way through its fusion."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER_VARIABLE] = folder  # the user's list of outputs stays as it is
        slide = Path(folder) / "smear.ome.tif"
        write_large(slide)
        viewer = napari.Viewer(show=True, show_welcome_screen=False)
        viewer.window.resize(*SIZE)
        viewer.open(str(slide), plugin="napari-focusfuse")
        _, dock = viewer.window.add_plugin_dock_widget("napari-focusfuse", "FocusFuse")
        dock.header.choose_method(options.method or "evidence")
        dock.choose_tab("Whole slide")
        tab = dock.slide_tab
        work_until(lambda: tab.form is not None and "about" in tab.form.estimate.plain)
        tab.form.button.click()
        viewer.layers[0].opacity = 0.4  # what is finished stands out
        work_until(lambda: _half_done(tab.run) or not tab.run.active)
        work(1)  # the blocks are read and drawn
        save(viewer, options.out / "whole-slide.png")
        tab.run.stop()
        work_until(lambda: not tab.run.active)
        if tab.run.error:
            raise SystemExit(tab.run.error)
        viewer.close()


def _half_done(run: Any) -> bool:
    return run.status is not None and 2 * run.status.progress.done >= run.status.progress.total > 0


def write_large(path: Path) -> None:
    """Write three focus layers of the smear, turned at random, as a slide with a pyramid."""
    with open_slide(FOLDER / "smear.ome.tif") as smear:
        middle = smear.planes[smear.zero - 1 : smear.zero + 2]
        tile = np.stack([smear.read_region(p, 0, 0, 0, *smear.levels[0].shape) for p in middle])
    rng = np.random.default_rng(0)
    turned = [[np.rot90(tile, rng.integers(4), (1, 2)) for _ in range(LARGE)] for _ in range(LARGE)]
    whole = np.concatenate([np.concatenate(row, axis=2) for row in turned], axis=1)
    scale = {"PhysicalSizeX": SMEAR_MPP, "PhysicalSizeY": SMEAR_MPP, "PhysicalSizeZ": 2.7}
    options = {"photometric": "rgb", "tile": (512, 512), "compression": "jpeg"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(whole, subifds=LEVELS, metadata={"axes": "ZYXS"} | scale, **options)
        for level in range(1, LEVELS + 1):
            step = 2**level
            writer.write(whole[:, ::step, ::step], subfiletype=1, **options)


if __name__ == "__main__":
    main()
