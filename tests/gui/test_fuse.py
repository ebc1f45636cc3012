from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
import pytest

from drawn_slide import Drawn, drawn
from event_loop import settle, wait_until
from fused_view import fuse
from napari_focusfuse.fusion import maps
from napari_focusfuse.fusion.method import MASK, MethodInfo, PixelMapper
from napari_focusfuse.layer_metadata import (
    KEY,
    foreground,
    fused_layer,
    overlay_axes,
    slide_layers,
)
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import FocalPlane, Region, UInt8Image
from napari_focusfuse.widgets._compat import camera
from napari_focusfuse.widgets._view import add_layer, layer_axes, level_factors, view_window
from napari_focusfuse.widgets.growing_result import GrowingResult
from textured_slide import texture


class Gated(Drawn):
    """Reads at level 0 wait at a gate, and say which thread they ran in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = threading.Semaphore(1000)
        self.threads: list[int] = []

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        self.threads.append(threading.get_ident())
        if threading.current_thread() is not threading.main_thread():
            self.gate.acquire()
        return super()._read(plane, level, region)


class StripesBlurred(PixelMapper):
    """A blur detector whose answer is known: stripes of 32 pixels with P = 1 and P = 0.25."""

    info = MethodInfo("stripes", "Stripes", "detection", (0,), halo=0)
    maps = (MASK,)

    def compute(self, stacks: np.ndarray) -> np.ndarray:
        stripes = np.arange(stacks.shape[3]) // 32 % 2 == 0
        blurred = np.where(stripes, 1.0, 0.25).astype(np.float32)[:, None]
        return np.broadcast_to(blurred, (len(stacks), *stacks.shape[2:4], 1))


@pytest.fixture
def with_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "load_blur_detector", lambda device, model: StripesBlurred())


@pytest.fixture
def slide() -> Iterator[Gated]:
    opened = Gated(height=1200, width=1600, planes=3, z_um=(-2.7, 0.0, 2.7), mpp=(0.25, 0.25))
    yield opened
    for _ in range(1000):
        opened.gate.release()


def show(viewer: Any, slide: Drawn) -> Any:
    ((data, keywords, _),) = slide_layers(slide)
    layer = viewer.add_image(data, **keywords)
    settle()
    return layer


def argmax(dock: Any) -> None:
    dock.header.choose_method("argmax")
    settle()


def only_tiles(slide: Gated, count: int) -> None:
    """Let the worker read so many tiles (of three planes) and no more."""
    while slide.gate.acquire(blocking=False):
        pass
    for _ in range(3 * count):
        slide.gate.release()


def test_the_sample_is_fused_where_it_is_in_view_and_stays_at_every_z(
    window: Any, open_dock: Callable[[], Any]
) -> None:
    (layer,) = window.open_sample("napari-focusfuse", "algae")
    dock = open_dock()
    argmax(dock)
    camera(window).zoom = 3
    settle()
    status = dock.fuse_tab.status.plain
    assert status.startswith("layers -1, 0, +1 · pixel size unknown · ")
    assert status.endswith("time unknown until the first tile")
    fuse(dock)
    assert dock.job.error == ""
    fused = dock.job.fused
    noted = fused.metadata[KEY]
    assert (noted["kind"], noted["complete"]) == ("fused", True)
    assert noted["provenance"]["method"] == "argmax"
    assert noted["provenance"]["region"][2:] == list(fused.data.shape[:2])
    assert fused.data[..., 3].min() == 255
    assert [str(unit) for unit in fused.units] == ["pixel"] * 2
    box = view_window(window, layer)
    assert fused.extent.world[0] == pytest.approx((box.top - 0.5, box.left - 0.5), abs=1)
    assert "about" in dock.fuse_tab.status.plain
    assert window.layers.selection.active is layer, "the z keys must keep working"
    window.dims.set_current_step(0, 0)
    settle()
    assert fused.loaded
    assert fused.visible


def test_the_view_is_fused_like_the_library_does(
    window: Any, open_dock: Callable[[], Any], slide: Gated
) -> None:
    from napari_focusfuse.fusion.region import fuse as fuse_region

    show(window, slide)
    dock = open_dock()
    fuse(dock)
    fused = dock.job.fused
    y, x, height, width = fused.metadata[KEY]["provenance"]["region"]
    expected = fuse_region(slide, Region(y, x, height, width), method="argmax")
    assert np.array_equal(fused.data[..., :3], expected.image)


def test_layers_are_registered_first_if_the_box_is_ticked(
    window: Any, open_dock: Callable[[], Any]
) -> None:
    drift = [(3, -2), (0, 0), (-2, 1)]
    still = texture(240, 280)
    stack = np.stack([np.roll(still, shift, (0, 1)) for shift in drift])
    show(window, ArraySlide(stack, name="drifted"))
    dock = open_dock()
    box = dock.fuse_tab.register_box
    assert not box.isChecked()
    assert "registration" not in fuse(dock).metadata[KEY]["provenance"]
    box.click()
    moved = fuse(dock).metadata[KEY]["provenance"]["registration"]
    np.testing.assert_allclose([entry["shift"] for entry in moved], drift, atol=0.2)
    assert "layers moved onto the middle one, by up to 3." in dock.job.summary
    box.click()
    assert "registration" not in fuse(dock).metadata[KEY]["provenance"]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0, 20])
def test_slide_pixels_shown_as_overlay_change_at_most_one_row_or_column(
    window: Any, level: int, degrees: int
) -> None:
    slide = Drawn(height=2048, width=2048, planes=3, z_um=(-2.7, 0.0, 2.7), mpp=(0.25, 0.25))
    layer = show(window, slide)
    layer.translate = (-2.7, 31.0, -17.0)
    if degrees:
        layer.affine = _turned(degrees)
    camera(window).zoom = 0.9 / 0.25 / 2**level
    camera(window).center = tuple(layer.data_to_world((1, 900, 1000)))
    settle()
    assert layer.data_level == level
    before = window.screenshot(flash=False).astype(int)

    box = view_window(window, layer)
    factors = level_factors(layer)[level]
    region = box.at(factors, slide.levels[level].shape)
    axes = overlay_axes(layer_axes(layer), factors, (region.y, region.x))
    data, keywords, kind = fused_layer(region, axes, name="overlay", provenance={})
    data[..., :3] = drawn(box.plane, level, region)
    data[..., 3] = 255
    add_layer(window, (data, keywords, kind), layer)
    layer.visible = False
    settle()
    after = window.screenshot(flash=False).astype(int)
    rows, columns = np.nonzero(np.abs(after - before).max(axis=-1) > 0)
    if degrees:
        # Turned, the same nearest-neighbour ties are scattered instead of filling one line.
        assert len(rows) < 0.002 * before.shape[0] * before.shape[1]
    else:
        assert min(len(set(rows)), len(set(columns))) <= 1


def _turned(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    return matrix


def test_our_job_neither_reads_nor_computes_in_the_windows_thread(
    window: Any, open_dock: Callable[[], Any], slide: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_focusfuse.fusion.argmax import ArgmaxMethod

    computed: list[int] = []
    compute = ArgmaxMethod.compute

    def noted(self: Any, stacks: Any) -> Any:
        computed.append(threading.get_ident())
        return compute(self, stacks)

    monkeypatch.setattr(ArgmaxMethod, "compute", noted)
    show(window, slide)
    dock = open_dock()
    argmax(dock)
    slide.threads.clear()
    fuse(dock)
    main = threading.main_thread().ident
    assert dock.job.done == dock.job.total > 1
    assert len(slide.threads) >= dock.job.total
    assert len(computed) >= dock.job.total
    assert main not in {*slide.threads, *computed}


def test_a_growing_layer_is_redrawn_at_most_six_times_a_second(
    window: Any, open_dock: Callable[[], Any], slide: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(window, slide)
    dock = open_dock()
    argmax(dock)
    redraws: list[float] = []
    copies: list[int] = []
    add, redraw = GrowingResult.add, GrowingResult._redraw

    def counted_add(self: GrowingResult, tile: Any) -> None:
        copies.append(tile.done)
        add(self, tile)

    def timed_redraw(self: GrowingResult) -> None:
        if self._dirty:
            redraws.append(time.monotonic())
        redraw(self)

    monkeypatch.setattr(GrowingResult, "add", counted_add)
    monkeypatch.setattr(GrowingResult, "_redraw", timed_redraw)
    fuse(dock)
    assert copies == list(range(1, dock.job.total + 1)), "one tile a callback"
    assert all(later - sooner > 0.16 for sooner, later in pairwise(redraws))


def test_cancel_shows_at_once_and_keeps_what_is_done(
    window: Any, open_dock: Callable[[], Any], slide: Gated
) -> None:
    show(window, slide)
    dock = open_dock()
    argmax(dock)
    only_tiles(slide, 1)
    button = dock.fuse_tab.button
    button.click()
    assert button.text() == "Cancel"
    wait_until(lambda: dock.job.done == 1)
    before = len(slide.threads)
    button.click()
    assert button.text() == "Cancelling …"
    only_tiles(slide, 1000)
    wait_until(lambda: dock.job.state == "idle")
    settle()
    assert button.text() == "Fuse view"
    assert len(slide.threads) - before <= 2 * 3, "only the tile in hand is finished"
    assert dock.job.done == 2 < dock.job.total
    alpha = dock.job.fused.data[..., 3]
    assert 0 < np.count_nonzero(alpha) < alpha.size
    assert dock.job.fused.metadata[KEY]["complete"] is False
    assert dock.job.fused.metadata[KEY]["provenance"]["method"] == "argmax"


def test_the_x_of_the_dock_ends_the_job_and_a_new_dock_attaches(
    window: Any, open_dock: Callable[[], Any], slide: Gated
) -> None:
    show(window, slide)
    dock = open_dock()
    argmax(dock)
    dock.fuse_tab.mask_box.setChecked(True)
    only_tiles(slide, 1)
    dock.fuse_tab.button.click()
    wait_until(lambda: dock.job.done == 1)
    job = dock.job
    window.window.remove_dock_widget(dock)
    assert job.state == "cancelling"
    only_tiles(slide, 1000)
    wait_until(lambda: job.state == "idle")
    settle()
    assert not job.error
    assert not _bound(window, "Shift-F")
    again = open_dock()
    assert again is not dock
    assert again.job is job
    assert again.fuse_tab.mask_box.isChecked()
    assert _bound(window, "Shift-F")
    again.job.blink()
    assert not job.fused.visible


def test_closing_the_viewer_in_mid_job_leaves_no_thread(
    window: Any, open_dock: Callable[[], Any], slide: Gated
) -> None:
    from qtpy.QtCore import QThreadPool

    show(window, slide)
    dock = open_dock()
    argmax(dock)
    only_tiles(slide, 1)
    dock.fuse_tab.button.click()
    wait_until(lambda: dock.job.done == 1)
    job = dock.job
    threading.Timer(0.3, only_tiles, (slide, 1000)).start()
    window.close()
    wait_until(lambda: job.state == "idle")
    settle()
    assert QThreadPool.globalInstance().activeThreadCount() == 0
    assert not job.error
    assert 1 <= job.done <= 2, "only the tile in hand was finished"


def test_the_mask_comes_with_the_fusion_and_follows_box_key_and_eye(
    window: Any, open_dock: Callable[[], Any], with_detector: None
) -> None:
    window.open_sample("napari-focusfuse", "algae")
    dock = open_dock()
    argmax(dock)
    camera(window).zoom = 3
    settle()
    fuse(dock)
    fused, mask = window.layers[-2:]
    assert mask.metadata[KEY]["kind"] == "blur mask"
    assert set(np.unique(mask.data)) >= {0, 64, 255}, "soft values are kept"
    assert not mask.data[~foreground(fused.data[..., :3])].any(), "the background stays clear"
    assert not mask.visible
    wait_until(lambda: "% of the foreground" in dock.fuse_tab.result.plain)

    plain = window.screenshot(flash=False).astype(int)
    _press(window, "Shift-M")
    settle()
    assert mask.visible
    assert dock.fuse_tab.mask_box.isChecked()
    red = np.abs(window.screenshot(flash=False).astype(int) - plain).max(axis=-1) > 0
    assert 0.01 < red.mean() < 1.2 * (mask.data == 255).mean(), "P = 0.25 is not shown, P = 1 is"
    mask.visible = False
    assert not dock.fuse_tab.mask_box.isChecked()
    dock.fuse_tab.mask_box.click()
    assert mask.visible
    _press(window, "Shift-B")
    assert not fused.visible
    _press(window, "Shift-B")
    assert fused.visible


def test_a_large_job_asks_first(window: Any, open_dock: Callable[[], Any]) -> None:
    from qtpy.QtWidgets import QMessageBox

    slide = Drawn(9000, 9000, 3, mpp=(0.25, 0.25), z_um=(-2.7, 0.0, 2.7))
    show(window, slide)
    dock = open_dock()
    argmax(dock)
    dock.fuse_tab.button.click()
    (box,) = dock.findChildren(QMessageBox)
    assert "megapixels" in box.text()
    assert "Fuse all of it?" in box.text()
    assert dock.job.state == "idle"
    box.reject()
    settle()
    assert dock.job.state == "idle"
    assert not box.isVisible()
    dock.fuse_tab.button.click()
    again = dock.findChildren(QMessageBox)[-1]
    next(b for b in again.buttons() if b.text() == "Fuse all of it").click()
    assert dock.job.state == "running"
    dock.job.cancel()
    wait_until(lambda: dock.job.state == "idle")


def test_what_cannot_be_fused_is_said_in_one_sentence(
    window: Any, open_dock: Callable[[], Any], slide: Gated
) -> None:
    show(window, slide)
    dock = open_dock()
    argmax(dock)
    dock.header.choose_planes("three")
    window.dims.set_current_step(0, 0)
    settle()
    assert "end of the stack" in dock.fuse_tab.status.plain
    assert "fuse one layer" in dock.fuse_tab.status.plain
    assert not dock.fuse_tab.button.isEnabled()
    window.dims.set_current_step(0, 1)
    camera(window).center = (0, 1e6, 1e6)
    settle()
    assert "not in view" in dock.fuse_tab.status.plain
    grey = window.add_image(np.zeros((3, 40, 40), np.uint8), name="grey", units=("um",) * 3)
    dock.header.layer_choice.choose(grey)
    settle()
    assert dock.fuse_tab.status.plain.startswith("grey is a grey image")


def test_deep_colour_and_a_3d_view_are_refused_in_one_sentence(
    window: Any, open_dock: Callable[[], Any], slide: Gated
) -> None:
    show(window, slide)
    dock = open_dock()
    window.dims.ndisplay = 3
    settle()
    assert "switch the viewer back to 2D" in dock.fuse_tab.status.plain
    window.dims.ndisplay = 2
    deep = window.add_image(np.zeros((3, 40, 40, 3), np.uint16), rgb=True, units=("um",) * 3)
    dock.header.layer_choice.choose(deep)
    settle()
    assert "8-bit RGB" in dock.fuse_tab.status.plain


def test_a_slides_file_is_closed_with_its_last_layer(
    window: Any, open_dock: Callable[[], Any]
) -> None:
    def held() -> bool:
        return any("algae" in file.path for file in psutil.Process().open_files())

    window.open_sample("napari-focusfuse", "algae")
    dock = open_dock()
    argmax(dock)
    camera(window).zoom = 3
    settle()
    dock.fuse_tab.button.click()
    wait_until(lambda: dock.job.done > 0)
    dock.fuse_tab.button.click()
    wait_until(lambda: dock.job.state == "idle")
    assert held()
    window.layers.clear()
    settle()
    gc.collect()
    assert not held()


@pytest.mark.parametrize("lazy", [False, True])
def test_any_rgb_layer_is_fused_with_its_own_scale(
    window: Any, open_dock: Callable[[], Any], lazy: bool
) -> None:
    data: Any = np.stack([drawn(i, 0, Region(0, 0, 300, 200)) for i in range(3)])
    if lazy:
        data = pytest.importorskip("dask.array").from_array(data, chunks=(1, 128, 128, 3))
    layer = window.add_image(
        data, rgb=True, scale=(2e-3, 5e-4, 5e-4), units=("mm",) * 3, name="another's"
    )
    dock = open_dock()
    camera(window).zoom *= 0.5
    argmax(dock)
    assert dock.fuse_tab.status.plain.startswith("layers -1, 0, +1 · 0.50 um/px · 1 tile · ")
    fuse(dock)
    assert dock.job.error == ""
    fused = dock.job.fused
    assert fused.data.shape == (300, 200, 4)
    assert fused.metadata[KEY]["mpp"] == pytest.approx((0.5, 0.5))
    assert fused.extent.world == pytest.approx(layer.extent.world[:, 1:])


def _bound(viewer: Any, key: str) -> bool:
    from app_model.types import KeyBinding

    return KeyBinding.from_str(key.replace("-", "+")) in viewer.keymap


def _press(viewer: Any, key: str) -> None:
    from app_model.types import KeyBinding

    viewer.keymap[KeyBinding.from_str(key.replace("-", "+"))](viewer)
