from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from event_loop import wait_until
from napari_focusfuse import open_slide
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.writer import OutputError, read_provenance


@pytest.fixture
def fused(fused_smear: Any) -> Any:
    return fused_smear.layer


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".png"])
def test_file_save_writes_scale_and_provenance(
    window: Any, fused: Any, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"fused{suffix}"
    window.layers.selection = {fused}
    (written,) = window.layers.save(str(path), selected=True, plugin="napari-focusfuse")
    assert Path(written) == path
    assert read_provenance(path)["method"] == "argmax"
    if suffix != ".png":
        with open_slide(path) as slide:
            assert slide.mpp == pytest.approx((0.243, 0.243), rel=1e-3)
            assert slide.levels[0].shape == fused.data.shape[:2]
            pixels = slide.read_region(slide.planes[0], 0, 0, 0, *slide.levels[0].shape)
        assert np.abs(pixels.astype(int) - fused.data[..., :3]).mean() < 4


def test_a_saved_mask_opens_as_the_mask_in_its_place(
    window: Any, fused: Any, tmp_path: Path
) -> None:
    mask = window.add_image(
        fused.data[..., 0],
        name="mask",
        metadata={KEY: {**fused.metadata[KEY], "kind": "blur mask"}},
        scale=fused.scale,
        translate=fused.translate,
        units=fused.units,
    )
    path = tmp_path / "mask.ome.tif"
    window.layers.selection = {mask}
    window.layers.save(str(path), selected=True, plugin="napari-focusfuse")
    (again,) = window.open(path, plugin="napari-focusfuse")
    assert again.metadata[KEY]["kind"] == "blur mask"
    assert again.scale == pytest.approx(mask.scale)
    assert again.translate == pytest.approx(mask.translate)
    assert np.array_equal(np.asarray(again.data[0]), mask.data)


def test_the_dock_saves_in_a_worker_and_says_what_went_wrong(
    window: Any, fused: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    dock = open_dock()
    fused.data[:10, :10, 3] = 0
    dock.job.save(str(tmp_path / "half.png"))
    wait_until(lambda: dock.fuse_tab.result.plain == "saved half.png")
    with Image.open(tmp_path / "half.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels[:10, :10] == 255).all()
    assert np.array_equal(pixels[10:], fused.data[10:, :, :3])
    dock.job.save(str(tmp_path / "missing" / "a.ome.tif"))
    wait_until(lambda: "missing" in dock.fuse_tab.result.plain)


def test_a_stack_is_no_flat_image(window: Any, tmp_path: Path) -> None:
    layer, _ = window.open_sample("napari-focusfuse", "synthetic_smear")
    window.layers.selection = {layer}
    with pytest.raises(OutputError, match="save the fused layer"):
        window.layers.save(str(tmp_path / "a.ome.tif"), selected=True, plugin="napari-focusfuse")
