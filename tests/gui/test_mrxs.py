"""A MIRAX slide from the drop to the score: its layers, a fusion of three, its extended focus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication

from event_loop import settle, wait_until
from mrxs_files import Layout, focus_slots, write_mrxs
from napari_focusfuse.fusion.region import fuse
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.metrics import score
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Region
from napari_focusfuse.widgets._compat import camera
from slide_files import Stack

LAYERS = range(-5, 6)
HEIGHT, WIDTH = 240, 480
COPY = Qt.DropAction.CopyAction


def tilted_scenes() -> tuple[list[Stack], Stack]:
    """Return 11 layers and what is sharp: the left lies in layer -1, the right in layer +1."""
    rng = np.random.default_rng(3)
    dots = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    sharp = Image.fromarray(dots.repeat(4, axis=0).repeat(4, axis=1))
    strip = WIDTH // 3
    layers = []
    for number in LAYERS:
        layer = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
        for i, focus in enumerate((-1, 0, 1)):
            blurred = sharp.filter(ImageFilter.GaussianBlur(2 * abs(number - focus)))
            columns = slice(i * strip, (i + 1) * strip)
            layer[:, columns] = np.asarray(blurred)[:, columns]
        layers.append(layer)
    return layers, np.asarray(sharp)


@pytest.fixture
def mirax(tmp_path: Path) -> Path:
    layers, fused = tilted_scenes()
    slots = focus_slots(layers, LAYERS[0], fused=fused, step=0.9)
    layout = Layout(tile=(40, 48), codec="JPEG", divisions=2, positions="vimslide", mask=True)
    return write_mrxs(tmp_path / "smear.mrxs", slots, layout)


def drop(viewer: Any, path: Path) -> None:
    """Let a file fall onto the canvas, as from a file manager."""
    files = QMimeData()
    files.setUrls([QUrl.fromLocalFile(str(path))])
    details = (files, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    canvas = viewer.window._qt_viewer
    QApplication.sendEvent(canvas, QDragEnterEvent(QPoint(200, 200), COPY, *details))
    QApplication.sendEvent(canvas, QDropEvent(QPointF(200, 200), COPY, *details))
    settle()


def step_to(viewer: Any, plane: int) -> None:
    """Move the slider of z itself."""
    viewer.window._qt_viewer.dims.slider_widgets[0].slider.setValue(plane)
    settle()


def compare(dock: Any) -> dict[str, float]:
    """Press Compare and return the table's figures."""
    tab = dock.compare_tab
    tab.button.click()
    wait_until(lambda: tab.worker is None)
    settle()
    rows = range(tab.table.rowCount())
    return {
        tab.table.item(row, 0).text(): float(tab.table.item(row, 1).text().removesuffix(" dB"))
        for row in rows
    }


def test_a_dropped_slide_is_stepped_through_fused_and_scored(
    window: Any, open_dock: Callable[[], Any], mirax: Path
) -> None:
    drop(window, mirax)
    layer, extended = window.layers
    slide = layer.metadata[KEY]["slide"]
    assert (slide.format, len(slide.planes), slide.zero) == ("mrxs", 11, 5)
    assert layer.data[0].shape == (11, HEIGHT, WIDTH, 3)
    assert (extended.metadata[KEY]["kind"], extended.visible) == ("extended focus", False)
    assert window.dims.point[0] == pytest.approx(0), "layer 0 is shown"

    # What lies under a point is the slide's pixel of the layer that the slider chose.
    camera(window).zoom = 5
    settle()
    under, pictures = [], []
    for plane in (5, 0, 10):
        step_to(window, plane)
        point = layer.data_to_world((plane, 100, 30))
        level, colour = layer.get_value(point, world=True)
        pixel = slide.read_region(slide.planes[plane], level, 100 >> level, 30 >> level, 1, 1)
        assert (colour == pixel[0, 0]).all()
        under.append(tuple(colour))
        pictures.append(window.screenshot(flash=False).astype(int))
    assert len(set(under)) == 3
    assert all(np.abs(other - pictures[0]).mean() > 5 for other in pictures[1:])
    step_to(window, 5)

    dock = open_dock()
    dock.header.choose_method("argmax")
    dock.header.choose_planes("three")
    settle()
    assert dock.fuse_tab.status.plain.startswith("layers -1, 0, +1 · ")
    dock.fuse_tab.button.click()
    wait_until(lambda: dock.job.state == "idle")
    settle()
    assert dock.job.error == ""
    fused = dock.job.fused
    noted = fused.metadata[KEY]["provenance"]
    assert noted["level_downsample"] == [1, 1]
    region = Region(*noted["region"])
    assert region.height > 50
    assert region.width > 170, "more than one of the strips is in view"
    expected = fuse(slide, region, method="argmax").image
    assert (fused.data[..., :3] == expected).all()
    assert (fused.data[..., 3] == 255).all()

    tab = dock.compare_tab
    assert tab.image_choice.layer is fused
    assert tab.reference_choice.layer is extended
    found = compare(dock)
    assert tab.status.plain == (
        f"{region.height} x {region.width} px ({region.height * region.width:,}) · level 0 · "
        "placed by position"
    )
    place = region.y, region.x, region.height, region.width
    truth = slide.read_region(slide.extended, 0, *place)
    assert found == pytest.approx(score(expected, truth), abs=0.005)

    # Fused, three layers come nearer to the scanner's own picture than layer 0 does.
    tab.image_choice.choose(layer)
    alone = compare(dock)
    assert found["SSIM-paper"] > alone["SSIM-paper"] + 0.1


def test_the_dock_says_what_a_slide_holds_and_is_not_shown(
    window: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    scenes = list(np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8))
    layout = Layout(tile=(16, 24), stored_filters=(1,))
    path = write_mrxs(tmp_path / "dyes.mrxs", focus_slots(scenes), layout)
    dock = open_dock()
    assert not dock.header.notes.isVisible()
    window.open(str(path), plugin="napari-focusfuse")
    settle()
    with open_slide(path) as slide:
        assert slide.not_shown
        assert all(sentence in dock.header.notes.plain for sentence in slide.not_shown)
    assert dock.header.notes.isVisible()
