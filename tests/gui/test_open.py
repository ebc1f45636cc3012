from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from drawn_slide import Drawn
from event_loop import settle
from napari_focusfuse import fuse
from napari_focusfuse.layer_metadata import KEY, slide_layers
from napari_focusfuse.slide import Region
from napari_focusfuse.widgets._compat import camera
from napari_focusfuse.writer import write_image


def add(viewer: Any, slide: Drawn) -> Any:
    (data, keywords, _), *_ = slide_layers(slide)
    return viewer.add_image(data, **keywords)


def test_the_algae_open_as_one_layer_in_pixels(window: Any) -> None:
    (layer,) = window.open_sample("napari-focusfuse", "algae")
    assert layer.multiscale
    assert layer.rgb
    assert layer.data[0].shape[0] == 5
    assert [str(unit) for unit in layer.units] == ["pixel"] * 3
    assert layer.scale[0] == 1
    assert layer.metadata[KEY]["mpp"] is None


def test_the_smear_opens_in_micrometres_with_its_extended_focus(window: Any) -> None:
    layer, extended = window.open_sample("napari-focusfuse", "synthetic_smear")
    assert layer.data[0].shape[0] == 11
    assert layer.scale == pytest.approx((2.7, 0.243, 0.243), rel=0.01)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert not extended.visible
    assert extended.metadata[KEY]["kind"] == "extended focus"
    slide = layer.metadata[KEY]["slide"]
    assert window.dims.point[0] == pytest.approx(slide.planes[slide.zero].z_um), "layer 0 is shown"
    assert [str(unit) for unit in window.layers.extent.units] == ["micrometer"] * 3
    assert window.dims.axis_labels == ("z", "y", "x")


def test_a_file_opens_and_a_bad_one_says_one_sentence(window: Any, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "src/napari_focusfuse/samples/algae.ome.tif"
    (layer,) = window.open(sample, plugin="napari-focusfuse")
    assert layer.name == "algae"
    bad = tmp_path / "cut.ome.tif"
    bad.write_bytes(sample.read_bytes()[:300])
    with pytest.raises(OSError, match=r"cut\.ome\.tif is damaged or incomplete"):
        window.open(bad, plugin="napari-focusfuse")


def test_results_dropped_into_the_window_lie_over_their_slide(window: Any, tmp_path: Path) -> None:
    slide, _ = window.open_sample("napari-focusfuse", "synthetic_smear")
    source = slide.metadata[KEY]["slide"]
    fusion = fuse(source, Region(100, 200, 150, 170), (0,), method="argmax", level=1)
    files = {
        "fused.ome.tif": (fusion.image, fusion.provenance),
        "mask.ome.zarr": (fusion.image[..., 0].copy(), {**fusion.provenance, "map": "mask"}),
        "depth.ome.tif": (np.float32(fusion.image[..., 1]), {**fusion.provenance, "map": "depth"}),
    }
    for name, (image, about) in files.items():
        write_image(tmp_path / name, image, mpp=fusion.plan.mpp, provenance=about)
        (layer,) = window.open(tmp_path / name, plugin="napari-focusfuse")
        settle()
        # A world position is the same pixel of level 1 in both layers.
        for y, x in ((0, 0), (149, 169), (75, 3)):
            world = layer.data_to_world((y, x))
            below = np.array(slide.world_to_data((slide.translate[0], *world))[1:])
            assert (below - 0.5) / 2 == pytest.approx((100 + y, 200 + x), abs=1e-3)
    kinds = [layer.metadata[KEY]["kind"] for layer in window.layers]
    assert kinds[2:] == ["slide", "blur mask", "map"]


def test_a_whole_slide_opens_by_its_coarsest_level_and_steps_by_what_is_visible(
    make_napari_viewer: Any,
) -> None:
    slide = Drawn(86_000, 100_000, 11, z_um=tuple(2.7 * i for i in range(11)))
    coarsest = len(slide.levels) - 1
    add(ViewerModel(), slide)
    # The viewer slices the first plane, then the middle one, where it puts the slider.
    assert [(plane, level) for plane, level, _ in slide.reads] == [(0, coarsest), (5, coarsest)]

    slide.reads.clear()
    viewer = make_napari_viewer(show=True)
    layer = add(viewer, slide)
    settle()
    # The window adds what it shows.  It paints once before it fits the view, so that is a corner
    # of level 0 in the first plane, then the level that fits.
    fitting = [reading for reading in slide.reads if reading[1] == layer.data_level]
    corner = [reading for reading in slide.reads if reading[:2] == (0, 0)]
    assert len(fitting) + len(corner) <= 16
    assert {level for _, level, _ in slide.reads} <= {0, layer.data_level, coarsest}

    camera(viewer).zoom = 4 / layer.scale[-1]
    settle()
    visible = np.asarray(viewer.canvas.size) / 4
    assert layer.data_level == 0
    slide.reads.clear()
    viewer.dims.set_current_step(0, viewer.dims.current_step[0] + 1)
    settle()
    levels = [level for _, level, _ in slide.reads]
    assert levels.count(coarsest) == 1
    most = np.prod(np.ceil(visible / 512) + 1)
    assert 1 <= levels.count(0) <= most
    assert len(levels) == levels.count(0) + 1
    assert len({plane for plane, _, _ in slide.reads}) == 1

    slide.reads.clear()
    viewer.dims.set_current_step(0, viewer.dims.current_step[0] - 1)
    settle()
    assert slide.reads == [], "a plane that was seen is in the cache"
