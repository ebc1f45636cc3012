from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from event_loop import settle, wait_until
from fused_view import fuse
from napari_focusfuse.fusion.maps import CONFIDENT
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.widgets._compat import camera
from napari_focusfuse.writer import read_provenance


@pytest.fixture
def dock(window: Any, open_dock: Callable[[], Any]) -> Any:
    """The dock over a small part of the smear."""
    window.open_sample("napari-focusfuse", "synthetic_smear")
    camera(window).zoom = 12
    camera(window).center = (0, 167, 128)  # a cell
    opened = open_dock()
    opened.header.choose_method("argmax")
    return opened


def test_depth_is_a_layer_in_um_with_its_scale_and_is_saved_as_it_is(
    window: Any, dock: Any, tmp_path: Path
) -> None:
    boxes = dock.fuse_tab.maps.boxes
    boxes["depth"].setChecked(True)
    dock.header.choose_planes("all")
    fused = fuse(dock)
    wait_until(lambda: dock.job.map("confidence") is not None)
    depth, confidence = dock.job.map("depth"), dock.job.map("confidence")
    assert depth.name == "depth (um) · smear"
    assert depth.data.dtype == np.float32
    assert depth.data.shape == fused.data.shape[:2]
    known = np.isfinite(depth.data)
    assert np.array_equal(known, confidence.data >= 255 * CONFIDENT), "what is unknown stays clear"
    assert 0.05 < known.mean() < 1
    low, high = depth.contrast_limits
    about = depth.metadata[KEY]["provenance"]["maps"]["depth"]
    assert (low, high) == (about["low"], about["high"])
    assert low <= depth.data[known].min() < depth.data[known].max() <= high
    assert np.allclose(depth.extent.world, fused.extent.world)
    assert (depth.visible, depth.colorbar.visible, confidence.visible) == (True, True, False)

    boxes["depth"].setChecked(False)
    assert not depth.visible
    boxes["confidence"].setChecked(True)
    assert confidence.visible
    confidence.visible = False
    assert not boxes["confidence"].isChecked()

    path = tmp_path / "depth.ome.tif"
    window.layers.selection = {depth}
    window.layers.save(str(path), selected=True, plugin="napari-focusfuse")
    assert np.array_equal(tifffile.imread(path, level=0), depth.data, equal_nan=True)
    made = read_provenance(path)
    assert made is not None
    assert (made["map"], made["maps"]["depth"]["unit"]) == ("depth", "um")
    (again,) = window.open(path, plugin="napari-focusfuse")
    assert np.allclose(again.extent.world, depth.extent.world, atol=1e-3)


def test_depth_of_one_layer_is_refused_before_the_click_and_the_rest_is_made(dock: Any) -> None:
    dock.fuse_tab.maps.boxes["depth"].setChecked(True)
    dock.header.choose_planes("one")
    settle()
    assert "no depth: that takes 3 focus layers" in dock.fuse_tab.status.plain
    assert fuse(dock).metadata[KEY]["complete"]
    assert dock.job.map("depth") is None


def test_the_dock_says_when_to_choose_a_method(dock: Any) -> None:
    dock.header.choose_method("argmax")
    assert dock.header.advice_line.plain.startswith("The fastest: ")
    dock.header.choose_method("swift")
    assert dock.header.advice_line.plain.startswith("Stained smears")
