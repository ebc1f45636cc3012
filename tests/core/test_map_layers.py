"""Our own files, opened again: where they lie over the slide they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from drawn_slide import Drawn
from napari_focusfuse import fuse
from napari_focusfuse.layer_metadata import KEY, Axes, overlay_axes, slide_axes
from napari_focusfuse.napari_reader import get_reader
from napari_focusfuse.readers.pixel_map import open_map
from napari_focusfuse.slide import Region, RegionError, SlideError, UnsupportedSlideError
from napari_focusfuse.writer import write_image
from slide_jobs import job_for, run, write_slide

SUFFIXES = (".ome.tif", ".ome.zarr")
LEVEL, ORIGIN = 1, (40, 60)
DEPTH = {"title": "Depth", "unit": "um", "low": -4.0, "high": 5.5}
MASK = {"title": "Blur mask", "unit": None, "low": 0.0, "high": 1.0}
SHAPE = (700, 530)


def about(**more: Any) -> dict[str, Any]:
    return {
        "method": "argmax",
        "region": [*ORIGIN, *SHAPE],
        "level_downsample": [2.0, 2.0],
        "maps": {"depth": DEPTH, "mask": MASK},
        **more,
    }


def write(path: Path, image: np.ndarray, provenance: dict[str, Any]) -> Path:
    write_image(path, image, mpp=(0.5, 1.0), provenance=provenance)
    return path


def read(path: Path) -> tuple[list[Any], dict[str, Any]]:
    reader = get_reader(str(path))
    assert reader is not None
    ((levels, keywords, kind),) = reader(str(path))
    assert kind == "image"
    return levels, keywords


def expected_place() -> Axes:
    """Return where the dock would lay a fusion of that region over the slide."""
    with Drawn() as slide:
        return overlay_axes(slide_axes(slide), slide.levels[LEVEL].downsample, ORIGIN)


def assert_in_place(keywords: dict[str, Any]) -> None:
    place = expected_place()
    assert keywords["scale"] == pytest.approx(place.scale)
    assert keywords["translate"] == pytest.approx(place.translate)
    assert keywords["units"] == ("um", "um")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_depth_map_lies_over_its_slide_in_its_own_range(suffix, tmp_path):
    depth = np.random.default_rng(0).normal(0, 2, SHAPE).astype(np.float32)
    levels, keywords = read(write(tmp_path / f"depth{suffix}", depth, about(map="depth")))
    assert_in_place(keywords)
    assert keywords["contrast_limits"] == (-4.0, 5.5)
    noted = keywords["metadata"][KEY]
    assert (noted["kind"], noted["map"], noted["unit"]) == ("map", "depth", "um")
    assert [level.shape for level in levels] == [(700, 530), (350, 265)]
    np.testing.assert_array_equal(np.asarray(levels[0]), depth)
    for key in (np.s_[3], np.s_[10:600:7, ::-1], np.s_[..., 5], np.s_[5:5, 3], np.s_[-1, -2]):
        np.testing.assert_array_equal(levels[0][key], depth[key])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mask_is_red_where_blurred(suffix, tmp_path):
    mask = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    levels, keywords = read(write(tmp_path / f"mask{suffix}", mask, about()))
    assert_in_place(keywords)
    assert keywords["metadata"][KEY]["kind"] == "blur mask"
    assert keywords["colormap"]["name"] == "focusfuse blurred"
    np.testing.assert_array_equal(levels[0][:], mask)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_fused_region_lies_over_its_slide(suffix, tmp_path):
    with Drawn() as slide:
        fusion = fuse(slide, Region(*ORIGIN, 90, 80), (0,), method="argmax", level=LEVEL)
    path = tmp_path / f"fused{suffix}"
    write_image(path, fusion.image, mpp=fusion.plan.mpp, provenance=fusion.provenance)
    levels, keywords = read(path)
    assert_in_place(keywords)
    assert levels[0].shape == (90, 80, 3)
    assert keywords["metadata"][KEY]["provenance"]["method"] == "argmax"


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"maps": 5, "region": [1, 2], "level_downsample": [1, 1]},
        {"maps": {"mask": 3}, "region": [1, 2, 3, "x"], "level_downsample": [1, 1]},
        {"map": "strange", "region": [1, 2, 3, 4], "level_downsample": [0, 0.5]},
    ],
)
def test_a_file_that_says_nothing_true_of_its_place_lies_at_the_corner(odd, tmp_path):
    path = tmp_path / "a.ome.tif"
    write_image(path, np.zeros((40, 40), np.uint8), mpp=(0.5, 0.25), provenance=odd)
    _, keywords = read(path)
    assert keywords["scale"] == (0.5, 0.25)
    assert keywords["translate"] == (0.0, 0.0)


def test_a_map_without_range_is_shown_from_its_lowest_to_its_highest(tmp_path):
    depth = np.linspace(-3, 3, 1600, dtype=np.float32).reshape(40, 40)
    _, keywords = read(write(tmp_path / "a.ome.tif", depth, {"maps": {}}))
    assert keywords["contrast_limits"] == pytest.approx((-3, 3))


def test_grey_files_of_others_are_refused_as_ever(tmp_path):
    path = tmp_path / "grey.ome.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    reader = get_reader(str(path))
    assert reader is not None
    with pytest.raises(UnsupportedSlideError, match="a grey image"):
        reader(str(path))
    colour = tmp_path / "colour.ome.tif"
    write_image(colour, np.zeros((64, 64, 3), np.uint8), mpp=None, provenance={})
    with pytest.raises(UnsupportedSlideError, match="no map of one value per pixel"):
        open_map(colour)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_map_is_told_in_a_sentence(suffix, tmp_path):
    path = write(tmp_path / f"a{suffix}", np.ones((300, 300), np.float32), about(map="depth"))
    file = path if path.is_file() else next(f for f in (path / "0" / "c").rglob("*") if f.is_file())
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 3])
    with pytest.raises(SlideError, match="damaged"), open_map(path) as source:
        source.levels[0][:]


def test_too_much_at_once_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ome.tif", np.ones((300, 300), np.float32), about(map="depth"))
    monkeypatch.setattr("napari_focusfuse.readers.pixel_map.MAX_REGION_PIXELS", 1 << 16)
    with open_map(path) as source, pytest.raises(RegionError, match="too many"):
        source.levels[0][:]


def test_what_a_whole_slide_run_writes_opens_as_what_it_is(tmp_path):
    slide = write_slide(tmp_path / "slide.ome.tif", 600, 640)
    outputs = {name: tmp_path / f"{name}.ome.tif" for name in ("depth", "confidence")}
    region = Region(64, 96, 500, 510)
    run(job_for(slide, tmp_path / "fused.ome.zarr", maps=outputs, region=region))
    seen = {}
    for path in (tmp_path / "fused.ome.zarr", *outputs.values()):
        levels, keywords = read(path)
        assert levels[0].shape[:2] == (500, 510)
        assert keywords["translate"] == pytest.approx((64 * 0.25, 96 * 0.25))
        assert keywords["scale"] == pytest.approx((0.25, 0.25))
        seen[path.name] = keywords["metadata"][KEY].get("map"), keywords.get("contrast_limits")
    assert seen["fused.ome.zarr"] == (None, (0, 255))
    assert seen["depth.ome.tif"] == ("depth", pytest.approx((-1.35, 6.75)))
    assert seen["confidence.ome.tif"] == ("confidence", (0, 255))
