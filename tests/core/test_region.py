from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_focusfuse.fusion.catalogue import blur_detector_info, load_method, method_info
from napari_focusfuse.fusion.method import (
    MASK,
    MAX_MARGIN,
    FusionError,
    MapInfo,
    MethodInfo,
    PixelMapper,
)
from napari_focusfuse.fusion.planes import choose_planes
from napari_focusfuse.fusion.region import (
    PAPER,
    Preset,
    finish,
    fuse,
    nearest_level,
    plan_fusion,
    run_fusion,
)
from napari_focusfuse.fusion.seams import seam_dependence
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import Region, RegionError
from textured_slide import Shifted, blurred, planned, random_swift, texture, textured_slide

HEIGHT, WIDTH = 301, 337
SQUARE = Region(0, 0, 250, 250)
SMALL = {
    "evidence": Preset("small", tile=384, margin=96, ramp=16),
    "argmax": Preset("small", tile=208, margin=40, ramp=8),
    "pyramid": Preset("small", tile=352, margin=96, ramp=16),
    "wavelet": Preset("small", tile=256, margin=48, ramp=16),
    "complex-wavelet": Preset("small", tile=384, margin=96, ramp=16),
    "guided": Preset("small", tile=320, margin=96, ramp=8),
    "swift": Preset("small", tile=216, margin=48, ramp=8),
    "swift-bf16": Preset("small", tile=216, margin=48, ramp=8),
}


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    return textured_slide(HEIGHT, WIDTH, mpp=(0.25, 0.25), z_um=[-2.7, 0, 2.7])


@pytest.fixture(scope="module", params=list(SMALL))
def whole(request, slide):
    """A method, its plan for the whole slide, and the fusion of that."""
    if not request.param.startswith("swift"):
        method, wanted = load_method(request.param, "cpu"), "three"
    else:
        dtype = "bfloat16" if request.param.endswith("bf16") else "float32"
        method, wanted = random_swift(dtype=dtype), "one"
    planes = choose_planes(slide, method.info, wanted)
    region = Region(0, 0, HEIGHT, WIDTH)
    plan = plan_fusion(slide, method.info, planes, 0, region, SMALL[request.param])
    return method, plan, finish(run_fusion(plan, method)).image


def spans(size: int) -> st.SearchStrategy[tuple[int, int]]:
    """First pixel and length of a span inside an axis."""
    ends = st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True).map(sorted)
    return ends.map(lambda pair: (pair[0], pair[1] - pair[0]))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=spans(HEIGHT),
    columns=spans(WIDTH),
    batch=st.integers(1, 4),
    order=st.randoms(use_true_random=False),
)
def test_a_pixel_is_the_same_whatever_was_asked_for(slide, whole, rows, columns, batch, order):
    method, plan, expected = whole
    region = Region(rows[0], columns[0], rows[1], columns[1])
    part = plan_fusion(slide, method.info, plan.planes, 0, region, plan.preset)
    tiles = list(part.tiles)
    order.shuffle(tiles)
    image = finish(run_fusion(replace(part, tiles=tuple(tiles)), method, batch=batch)).image
    wanted = expected[region.y : region.stop_y, region.x : region.stop_x]
    np.testing.assert_array_equal(image, wanted)


def test_a_moved_grid_changes_nothing(whole):
    method, plan, _ = whole
    assert plan.tiling == "exact"
    assert len(plan.tiles) >= 4
    assert seam_dependence(plan, method).maximum <= 1


def test_the_fusion_is_that_of_the_untiled_image(whole):
    method, plan, image = whole
    height, width = 320, 352
    stack = np.stack([plan.slide.read_region(p, 0, 0, 0, HEIGHT, WIDTH) for p in plan.planes])
    after = ((0, 0), (0, height - HEIGHT), (0, width - WIDTH), (0, 0))
    untiled = method(np.pad(stack, after, mode="reflect")[None].astype(np.float32) / 255)
    # Inside only: near the slide's edge the untiled network sees its own padding.
    margin = plan.grid.margin
    inner = (slice(margin, HEIGHT - margin), slice(margin, WIDTH - margin))
    difference = np.abs(np.rint(untiled[0, :HEIGHT, :WIDTH] * 255)[inner] - image[inner])
    assert difference.max() <= 1


@pytest.mark.parametrize("distance", [17, 24])
def test_a_halo_8_px_too_small_is_seen(slide, distance):
    region = Region(0, 0, HEIGHT, WIDTH)
    honest, lying = Shifted(distance, distance), Shifted(distance, distance - 8)
    preset = Preset("small", tile=96, margin=24, ramp=8)
    assert seam_dependence(planned(slide, honest, region, preset), honest).maximum == 0
    plan = planned(slide, lying, region, replace(preset, margin=distance // 8 * 8 - 8))
    assert seam_dependence(plan, lying).maximum > 10


def test_a_margin_too_small_for_a_network_is_seen(slide):
    method = random_swift(gain=3.0)
    reach = method.info.halo
    plan = planned(
        slide,
        method,
        Region(0, 0, HEIGHT, WIDTH),
        Preset("short", tile=96, margin=(reach - 24) // 8 * 8, ramp=8),
    )
    assert plan.tiling == "anchored only"
    seen = seam_dependence(plan, method)
    assert seen.maximum > 1
    assert 0 < seen.changed < 1


def test_tiles_arrive_one_by_one_and_make_up_the_picture(slide):
    method = load_method("argmax", "cpu")
    region = Region(37, 11, 200, 260)
    plan = planned(slide, method, region, SMALL["argmax"])
    canvas = np.zeros((region.height, region.width, 3), np.uint8)
    seen = []
    steps = run_fusion(plan, method)
    while True:
        try:
            tile = next(steps)
        except StopIteration as finished:
            fusion = finished.value
            break
        seen.append((tile.done, tile.total))
        assert tile.mask is None
        assert tile.maps == {}
        assert tile.image.shape == (tile.region.height, tile.region.width, 3)
        y, x = tile.region.y - region.y, tile.region.x - region.x
        canvas[y : y + tile.region.height, x : x + tile.region.width] = tile.image
    assert seen == [(n + 1, len(plan.tiles)) for n in range(len(plan.tiles))]
    np.testing.assert_array_equal(canvas, fusion.image)


def test_a_fusion_can_be_given_up(slide):
    method = Shifted(8, 8)
    calls = []
    method.compute = lambda stacks: calls.append(1) or stacks.mean(axis=1)
    steps = run_fusion(planned(slide, method, SQUARE, SMALL["argmax"]), method)
    next(steps)
    steps.close()
    assert calls == [1]


def test_equal_planes_stay_as_they_are_to_the_last_bit():
    image = texture(200, 230)
    flat = ArraySlide(np.stack([image] * 3))
    for name in (name for name in SMALL if not name.startswith("swift")):
        fused = fuse(flat, method=name, device="cpu", preset=SMALL[name])
        np.testing.assert_array_equal(fused.image, image)


class Halves(PixelMapper):
    """Calls the left half of what it is shown sharp and the right half blurred, by its colour."""

    info = MethodInfo("halves", "Halves", "detection", (0,), 0)
    maps = (MASK,)

    def compute(self, stacks):
        return (stacks[:, 0, ..., :1] > 0.5).astype(np.float32)


class Brightest(PixelMapper):
    """Says which of the fused planes is the brightest, as a height from -2 to 2 um."""

    info = MethodInfo("brightest", "Brightest", "depth", None, 0)
    maps = (MapInfo("depth", "Depth", "um", low=-2.0, high=2.0),)
    takes = "fused"

    def compute(self, stacks):
        brightest = stacks[..., 0].argmax(axis=1).astype(np.float32)
        return brightest[..., None] / (stacks.shape[1] - 1)


@pytest.mark.parametrize("wanted", [(-1, 0, 1), (-1, 1), (0,), (1,)])
def test_the_mask_is_that_of_layer_0_whatever_is_fused(wanted):
    stack = np.zeros((3, 100, 120, 3), np.uint8)
    stack[1, :, 60:] = 255
    slide = ArraySlide(stack)
    method = load_method("argmax", "cpu")
    planes = choose_planes(slide, method.info, wanted)
    whole = Region(0, 0, 100, 120)
    plan = plan_fusion(slide, method.info, planes, 0, whole, centre=slide.planes[1])
    fusion = finish(run_fusion(plan, method, [Halves()]))
    np.testing.assert_array_equal(fusion.mask, stack[1, ..., 0])
    assert fusion.provenance["mask_plane"]["offset"] == 0


def test_the_mask_leaves_the_picture_alone(slide):
    method = load_method("pyramid", "cpu")
    plan = planned(slide, method, SQUARE, SMALL["pyramid"])
    with_mask = finish(run_fusion(plan, method, [Halves()]))
    np.testing.assert_array_equal(with_mask.image, finish(run_fusion(plan, method)).image)
    assert with_mask.image.shape == (250, 250, 3)
    assert with_mask.mask.shape == (250, 250)


def test_a_map_with_a_unit_is_kept_in_that_unit_beside_others():
    stack = np.zeros((3, 90, 120, 3), np.uint8)
    for plane, columns in enumerate((slice(0, 40), slice(40, 80), slice(80, 120))):
        stack[plane, :, columns] = 255
    slide = ArraySlide(stack)
    method = load_method("argmax", "cpu")
    plan = planned(slide, method, Region(0, 0, 90, 120), SMALL["argmax"])
    fusion = finish(run_fusion(plan, method, [Brightest(), Halves()]))
    assert set(fusion.maps) == {"depth", "mask"}
    assert fusion.maps["depth"].dtype == np.float32
    expected = np.repeat([-2.0, 0.0, 2.0], 40)
    np.testing.assert_allclose(fusion.maps["depth"][45], expected, atol=4 / 65535)
    np.testing.assert_array_equal(fusion.mask, stack[1, ..., 0])
    assert fusion.provenance["maps"]["depth"]["unit"] == "um"
    assert fusion.provenance["maps"]["depth"]["made_by"] == "brightest"
    with pytest.raises(FusionError, match="Two of the maps mask, mask have one name"):
        finish(run_fusion(plan, method, [Halves(), Halves()]))


def test_a_method_may_make_maps_of_its_own(slide):
    class Sure(Shifted):
        maps = (MapInfo("confidence", "Confidence", None, 0.0, 1.0),)

        def compute(self, stacks):
            sure = np.full((*stacks[:, 0].shape[:3], 1), 0.25, np.float32)
            return np.concatenate([super().compute(stacks), sure], axis=-1)

    method = Sure(8, 8)
    plan = planned(slide, method, SQUARE, SMALL["argmax"])
    fusion = finish(run_fusion(plan, method, [Halves()]))
    assert list(fusion.maps) == ["confidence", "mask"]
    assert (fusion.maps["confidence"] == 64).all()
    plain = finish(run_fusion(plan, Shifted(8, 8)))
    np.testing.assert_array_equal(fusion.image, plain.image)


def test_the_papers_tiling_depends_on_its_grid_and_that_can_be_measured():
    slide = textured_slide(400, 640)
    method = load_method("argmax", "cpu")
    plan = planned(slide, method, Region(0, 0, 400, 640), PAPER)
    assert (plan.grid.tile, plan.grid.step, plan.grid.margin, plan.grid.ramp) == (512, 384, 0, 128)
    assert plan.tiling == "anchored only"
    seam = seam_dependence(plan, method)
    assert seam.maximum > 1
    assert seam.mean < 1


def test_the_default_margin_covers_method_and_blur_detector_alike(slide):
    detector = blur_detector_info()
    for name in ("argmax", "pyramid"):
        info = method_info(name)
        plan = plan_fusion(slide, info, slide.planes, 0, SQUARE)
        assert plan.grid.margin >= max(info.halo, 0 if detector is None else detector.halo)
        assert plan.grid.margin % plan.grid.alignment == 0
        assert plan.grid.tile == 768
    far = MethodInfo("far", "Far", "restoration", None, halo=300)
    plan = plan_fusion(slide, far, slide.planes, 0, SQUARE)
    assert (plan.grid.margin, plan.tiling) == (MAX_MARGIN, "anchored only")


def test_a_region_is_cut_off_at_the_slide_and_refused_outside(slide):
    info = method_info("argmax")
    plan = plan_fusion(slide, info, slide.planes, 0, Region(-20, 300, 60, 100))
    assert plan.region == Region(0, 300, 40, 37)
    assert plan.warnings == ("the region was cut off at the slide's edge",)
    with pytest.raises(RegionError, match="lies outside the slide, which has 301 x 337"):
        plan_fusion(slide, info, slide.planes, 0, Region(301, 0, 5, 5))
    with pytest.raises(RegionError, match="has levels 0 to 0, not 3"):
        plan_fusion(slide, info, slide.planes, 3, Region(0, 0, 5, 5))
    with pytest.raises(RegionError, match="has levels 0 to 0, not 3"):
        fuse(slide, method="argmax", level=3)


def test_slides_smaller_than_a_tile_or_than_its_margin_are_fused():
    for height, width in [(1, 1), (1, 9), (7, 3), (40, 530)]:
        sharp = texture(height, width)
        slide = ArraySlide(np.stack([blurred(sharp), sharp, blurred(sharp)]))
        fused = fuse(slide, method="pyramid", device="cpu", preset=SMALL["pyramid"]).image
        assert fused.shape == sharp.shape


def test_the_level_nearest_to_the_models_pixel_size():
    levels = [np.zeros((3, 800 >> n, 800 >> n, 3), np.uint8) for n in range(4)]
    info = MethodInfo("m", "M", "restoration", (0,), 0, mpp=0.24)
    assert nearest_level(ArraySlide(levels, mpp=(0.06, 0.06)), info) == 2
    assert nearest_level(ArraySlide(levels, mpp=(0.24, 0.24)), info) == 0
    assert nearest_level(ArraySlide(levels, mpp=(0.1, 0.1)), info) == 1
    assert nearest_level(ArraySlide(levels), info) == 0


def test_provenance_says_where_the_picture_comes_from(slide):
    fusion = fuse(slide, Region(8, 16, 24, 32), method="argmax", device="cpu")
    about = fusion.provenance
    assert about["method"] == "argmax"
    assert about["region"] == [8, 16, 24, 32]
    assert about["mpp"] == [0.25, 0.25]
    assert about["tiling"] == "exact"
    assert about["source"] == "texture"
    assert [plane["offset"] for plane in about["planes"]] == [-1, 0, 1]
    assert about["model_sha256"] is None
    assert about["mask_plane"] is None
    assert about["use"] == "research use only"
    assert fusion.plan.mpp == (0.25, 0.25)


@pytest.mark.parametrize("name", ["argmax", "evidence", "pyramid", "wavelet"])
def test_the_number_of_threads_changes_no_bit_of_a_selection(name: str):
    method = load_method(name, "cpu")
    stacks = np.random.default_rng(3).random((1, 3, 224, 240, 3), dtype=np.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(method(stacks))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
