from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from event_loop import settle, wait_until
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.widgets._compat import camera, viewbox

METHODS = ("argmax", "pyramid", "wavelet")


@pytest.fixture
def dock(window: Any, open_dock: Callable[[], Any]) -> Iterator[Any]:
    """The dock over a small part of the smear, with three methods ticked."""
    window.open_sample("napari-focusfuse", "synthetic_smear")
    camera(window).zoom = 12
    opened = open_dock()
    opened.fuse_tab.methods.choose(*METHODS)
    settle()
    return opened


def run(dock: Any) -> list[Any]:
    before = set(dock.job._viewer().layers)
    dock.fuse_tab.beside_button.click()
    wait_until(lambda: not dock.fuse_tab.beside.series.running)
    settle()
    assert dock.job.error == ""
    return [layer for layer in dock.job._viewer().layers if layer not in before]


def test_the_same_view_by_several_methods_beside_each_other_and_back(
    window: Any, dock: Any, open_dock: Callable[[], Any]
) -> None:
    slide, extended = window.layers
    extended.visible = True
    zoom, size = camera(window).zoom, viewbox(window)
    layers = run(dock)
    noted = [layer.metadata[KEY]["provenance"] for layer in layers]
    assert [each["method"] for each in noted] == list(METHODS)
    assert len({tuple(each["region"]) for each in noted}) == 1, "of the same view"
    assert not np.array_equal(layers[0].data, layers[1].data)
    assert [layer.name.partition(" · ")[0] for layer in layers] == [
        "Sharpest layer",
        "Laplacian pyramid",
        "Wavelets",
    ]
    grid = window.canvas.grid
    assert grid.enabled
    assert grid.actual_shape(window.layers) == (2, 2)
    places = [grid.position(window.layers.index(layer), window.layers) for layer in layers]
    assert places == [(0, 0), (0, 1), (1, 0)]
    assert not slide.visible
    assert not extended.visible
    assert all(layer.visible and layer.name_overlay.visible for layer in layers)
    seen = viewbox(window)[0] / camera(window).zoom
    assert seen == pytest.approx(size[0] / zoom, rel=0.02), "as much as before is in each view"

    # A dock that is opened anew knows the way back.
    window.window.remove_dock_widget("all")
    settle()
    button = open_dock().fuse_tab.beside_button
    assert button.text() == "Back to one view"
    button.click()
    assert not grid.enabled
    assert slide.visible
    assert extended.visible
    assert not any(layer.name_overlay.visible for layer in layers)
    assert camera(window).zoom == pytest.approx(zoom)
    assert button.text() == "Fuse side by side"


def test_four_methods_at_most_and_two_at_least(dock: Any) -> None:
    tab = dock.fuse_tab
    names = [choice.name for choice in dock.header.methods]
    tab.methods.choose(*names[:4])
    assert len(tab.methods.chosen()) == 4
    assert not tab.methods._boxes[dock.header.methods[4]].isEnabled()
    assert tab.beside_button.isEnabled()
    tab.methods.choose(names[0])
    assert not tab.beside_button.isEnabled()


def test_cancel_ends_the_row_and_naparis_own_button_leads_back(window: Any, dock: Any) -> None:
    tab = dock.fuse_tab
    tab.beside_button.click()
    wait_until(lambda: "2 of 3: Laplacian pyramid" in tab.result.plain)
    tab.button.click()
    wait_until(lambda: not tab.beside.series.running)
    settle()
    assert dock.job.state == "idle"
    assert not tab.beside.shown
    assert not window.canvas.grid.enabled
    tab.methods.choose(*METHODS[:2])
    run(dock)
    assert tab.beside.shown
    window.canvas.grid.enabled = False
    assert not tab.beside.shown
    assert window.layers[0].visible
