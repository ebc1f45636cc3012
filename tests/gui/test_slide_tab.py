"""The Whole slide tab on a real window, and the real process it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLineEdit

from event_loop import settle, wait_until
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Region
from napari_focusfuse.whole_slide import fuse_slide
from napari_focusfuse.whole_slide.preview import FinishedPixels
from napari_focusfuse.widgets.finished_layer import FinishedLayer
from napari_focusfuse.widgets.known_runs import known_outputs, remember_output
from napari_focusfuse.widgets.slide_run import _CHILDREN
from slide_jobs import job_for, write_slide

LONG = 120.0
"""Seconds the process may take to start on a busy machine."""


@pytest.fixture(autouse=True)
def own_list_of_outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("FOCUSFUSE_STATE_DIR", str(tmp_path / "state"))
    yield
    for child in _CHILDREN.values():
        child.kill()
        child.wait()
    _CHILDREN.clear()


def opened(window: Any, open_dock: Callable[[], Any], slide: Path) -> Any:
    """The tab with a slide open, and ``argmax`` chosen."""
    window.open(str(slide), plugin="napari-focusfuse")
    dock = open_dock()
    dock.header.choose_method("argmax")
    dock.choose_tab("Whole slide")
    wait_until(lambda: dock.slide_tab.form is not None)
    settle()
    form = dock.slide_tab.form
    if form.isVisible():  # no worker may outlive the window
        wait_until(lambda: "by one tile fused here" in form.estimate.plain, LONG)
    return dock


def test_a_slide_is_fused_cancelled_resumed_and_opened_in_place(
    window: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    slide = write_slide(tmp_path / "thick.ome.tif", 2200, 4300, levels=3)
    dock = opened(window, open_dock, slide)
    tab, form = dock.slide_tab, dock.slide_tab.form
    assert form.output.text() == str(tmp_path / "thick.fused.ome.tif")
    assert "4,300 x 2,200 px" in form.estimate.plain
    form.maps["depth"].setChecked(True)
    form.button.click()

    run, progress = tab.run, tab.progress
    assert tab.pages.currentWidget() is progress
    # It ends before its first block is done, whatever the machine is busy with.
    progress.button.click()
    wait_until(lambda: run.state == "stopped", LONG)
    assert not run.output.exists()
    assert progress.button.text() == "Resume"
    progress.button.click()
    wait_until(lambda: run.state == "finished", LONG)
    assert not run.log.exists()

    progress.open_button.click()
    settle()
    results = {
        layer.metadata[KEY]["kind"]: layer for layer in window.layers if KEY in layer.metadata
    }
    stack = next(layer for layer in window.layers if layer.metadata[KEY]["kind"] == "slide")
    result = next(layer for layer in window.layers if layer.name.startswith("thick.fused"))
    assert tuple(result.extent.world[1][-2:]) == pytest.approx(tuple(stack.extent.world[1][-2:]))
    assert len(results) >= 2
    with open_slide(run.output) as fused:
        assert fused.levels[0].shape == (2200, 4300)


def test_a_dock_finds_what_is_half_done(
    window: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    slide, output = write_slide(tmp_path / "thick.ome.tif", 600, 700), tmp_path / "out.ome.tif"
    steps = fuse_slide(job_for(slide, output))
    while next(steps).done < 2:
        pass
    steps.close()
    remember_output(output)
    tab = opened(window, open_dock, slide).slide_tab
    assert known_outputs() == [output]
    assert (tab.run.output, tab.run.state) == (output, "stopped")
    assert tab.progress.status.plain.startswith("2 of 4 blocks")
    assert tab.progress.button.text() == "Resume"
    assert tab.progress.button.isEnabled()
    tab.run_box.setCurrentIndex(0)
    tab.run_box.activated.emit(0)
    assert tab.pages.currentWidget() is tab.form
    assert output in known_outputs()


def test_finished_blocks_lie_over_the_slide(window: Any, tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "thick.ome.tif", 600, 700)
    window.open(str(slide), plugin="napari-focusfuse")
    stack = window.layers[0]
    finished = FinishedLayer(window, stack, job_for(slide, tmp_path / "out.ome.tif"))
    pixels = np.full((88, 188, 3), 77, np.uint8)
    finished.add([FinishedPixels(Region(512, 512, 88, 188), 1, pixels)])
    assert finished.layer in window.layers
    assert finished.layer.data.shape == (600, 700, 4)
    assert (finished.layer.data[512:, 512:] == (77, 77, 77, 255)).all()
    assert not finished.layer.data[:512, :, 3].any()
    assert not finished.layer.data[:, :512, 3].any()
    ours, theirs = finished.layer.extent.world, stack.extent.world[:, -2:]
    np.testing.assert_allclose(ours, theirs)


def test_what_cannot_be_done_is_said_before_the_click(
    window: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    slide = write_slide(tmp_path / "thick.ome.tif", 300, 400)
    dock = opened(window, open_dock, slide)
    form = dock.slide_tab.form
    field: QLineEdit = form.output
    for name, sentence in (
        ("a.png", "no suffix"),
        ("none/a.ome.tif", "does not exist"),
        ("thick.ome.tif", "exists already"),
    ):
        field.setText(str(tmp_path / name))
        assert sentence in form.estimate.plain
        assert not form.button.isEnabled()
    layer = window.add_image(np.zeros((3, 64, 64, 3), np.uint8), rgb=True, name="no file")
    dock.header.layer_choice.choose(layer)
    assert "is not a file" in form.estimate.plain
