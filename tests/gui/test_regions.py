from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn_slide import Drawn
from event_loop import settle, wait_until
from napari_focusfuse.fusion.region import fuse as fuse_region
from napari_focusfuse.layer_metadata import KEY, slide_layers
from napari_focusfuse.slide import Region
from napari_focusfuse.writer import read_provenance

REGIONS = (Region(40, 20, 90, 120), Region(150, 60, 100, 80))


@pytest.fixture
def slide() -> Drawn:
    return Drawn(300, 260, 5, z_um=(-5.4, -2.7, 0.0, 2.7, 5.4), mpp=(0.25, 0.5))


@pytest.fixture
def dock(window: Any, open_dock: Callable[[], Any], slide: Drawn) -> Any:
    """The dock over a slide with two regions, the second one drawn at another plane."""
    ((data, keywords, _),) = slide_layers(slide)
    layer = window.add_image(data, **keywords)
    boxes = [_corners(region, plane) for region, plane in zip(REGIONS, (2, 3), strict=True)]
    shapes = window.add_shapes(
        boxes,
        shape_type=["rectangle", "ellipse"],
        scale=layer.scale,
        translate=layer.translate,
        units=layer.units,
        name="fields",
    )
    window.layers.selection.active = shapes
    opened = open_dock()
    opened.header.choose_method("argmax")
    settle()
    return opened


def _corners(region: Region, plane: int) -> np.ndarray:
    # Pixel i is drawn around i: it covers i - 0.5 to i + 0.5.
    top, bottom = region.y - 0.5, region.stop_y - 0.5
    left, right = region.x - 0.5, region.stop_x - 0.5
    return np.array([(plane, y, x) for y, x in _around(top, left, bottom, right)], dtype=float)


def _around(top: float, left: float, bottom: float, right: float) -> list[tuple[float, float]]:
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def results(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if layer.metadata.get(KEY, {}).get("kind") == "fused"]


def finish(dock: Any) -> None:
    wait_until(lambda: not dock.fuse_tab.regions.series.running and dock.job.state == "idle")
    settle()


def test_each_shape_is_fused_at_its_place_and_plane_and_written(
    window: Any, dock: Any, slide: Drawn, tmp_path: Path
) -> None:
    fold = dock.fuse_tab.regions
    fold.fuse(tmp_path)
    assert dock.fuse_tab.button.text() == "Cancel"
    finish(dock)
    layers = results(window)
    assert [layer.name for layer in layers] == [
        "region 1 · -1, 0, +1 · drawn",
        "region 2 · 0, +1, +2 · drawn",
    ]
    for layer, region in zip(layers, REGIONS, strict=True):
        made = layer.metadata[KEY]["provenance"]
        assert made["region"] == [region.y, region.x, region.height, region.width]
    expected = fuse_region(slide, REGIONS[0], method="argmax")
    assert np.array_equal(layers[0].data[..., :3], expected.image)
    files = [tmp_path / f"drawn-region-{number}.ome.tif" for number in (1, 2)]
    wait_until(lambda: all(path.exists() for path in files))
    for path, layer in zip(files, layers, strict=True):
        assert read_provenance(path) == layer.metadata[KEY]["provenance"]

    fold.fuse(tmp_path)
    assert "holds drawn-region-1.ome.tif already; choose another folder" in fold.message.plain
    assert not fold.series.running


def test_cancel_ends_all_regions(window: Any, dock: Any) -> None:
    dock.fuse_tab.regions.button.click()
    dock.fuse_tab.button.click()
    finish(dock)
    assert not any(layer.metadata[KEY]["complete"] for layer in results(window))


def test_what_cannot_be_fused_is_said_in_one_sentence(window: Any, dock: Any) -> None:
    fold = dock.fuse_tab.regions
    shapes = fold.choice.layer
    shapes.add_rectangles(_corners(Region(900, 900, 50, 50), 2))
    fold.button.click()
    assert fold.message.plain.startswith("Region 3 is empty or lies outside drawn.ome.tif; move it")
    shapes.data = []
    fold.button.click()
    assert fold.message.plain == "fields holds no shape; draw one around each region."
    window.layers.remove(shapes)
    settle()
    assert fold.message.plain == "Add a Shapes layer, and draw regions in it."
    assert not fold.button.isEnabled()
