"""The depth map: right to a fraction of a step where it is confident, the same in any tiling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_focusfuse.benchmark_definition import Z_STEP_UM, SimulatedStack, simulate_specimen
from napari_focusfuse.fusion.argmax import ArgmaxMethod
from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.fusion.depth import DepthConfig, DepthMapper, depth_mapper, fit_peak
from napari_focusfuse.fusion.maps import CONFIDENT, DEPTH_INFO, UnknownMapError, load_mappers
from napari_focusfuse.fusion.plan import DEFAULT, FusionPlan, plan_fusion
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.fusion.region import finish, fuse, run_fusion
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import PlaneError, Region
from napari_focusfuse.smear import draw_smear
from textured_slide import textured_slide

HEIGHTS = [-2.7, 0.0, 2.7]


def smear(layers: int, depth_um: float) -> SimulatedStack:
    rng = np.random.default_rng(1)
    specimen = draw_smear((288, 288), rng, cells=4, depth_um=depth_um)
    return simulate_specimen(specimen, specimen.height_map(), rng, layers=layers)


def mapped(mapper: DepthMapper, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (Y, X) depth in the mapper's unit and confidence."""
    values = mapper(planes[None].astype(np.float32) / 255)[0]
    about = mapper.maps[0]
    return about.low + values[..., 0] * (about.high - about.low), values[..., 1]


@pytest.mark.parametrize(("layers", "median_um", "share"), [(3, 0.7, 0.15), (11, 0.5, 0.5)])
def test_confident_depths_are_right(layers: int, median_um: float, share: float) -> None:
    stack = smear(layers, 6.0)
    heights = Z_STEP_UM * (np.arange(layers) - layers // 2)
    depth, confidence = mapped(DepthMapper(heights.tolist()), stack.planes)
    cells = np.ptp(stack.truth_all.astype(int), axis=2) > 20
    known = cells & (confidence >= CONFIDENT)
    assert np.median(np.abs(depth - stack.height_um)[known]) <= median_um
    within = np.abs(stack.height_um) <= heights[-1] + Z_STEP_UM / 2
    assert known[cells & within].mean() >= share
    assert confidence[cells & within].mean() > 2 * confidence[~cells].mean()


@settings(max_examples=30)
@given(
    gaps=st.lists(st.floats(1.0, 4.0), min_size=2, max_size=5),
    share=st.floats(0.0, 1.0),
    width=st.floats(0.8, 1.5),
)
def test_a_gaussian_focus_curve_gives_its_centre_at_any_spacing(
    gaps: list[float], share: float, width: float
) -> None:
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    first, last = heights[:2].mean(), heights[-2:].mean()
    peak = first + share * (last - first)
    far = heights[-1] + 100.0  # a plane that holds nothing: no noise
    z = torch.tensor([*heights, far], dtype=torch.float64) / far
    energy = torch.exp(-(((z - peak / far) / (width / far)) ** 2) / 2)
    depth, certainty, _ = fit_peak(energy[:, None, None], z, rounding=1e-30)
    assert depth.item() * far == pytest.approx(peak, abs=1e-3)
    assert certainty.item() > 0.99


def test_a_featureless_field_has_a_depth_but_no_confidence() -> None:
    depth, confidence = mapped(DepthMapper(HEIGHTS), np.full((3, 64, 64, 3), 200, np.uint8))
    assert np.isfinite(depth).all()
    assert confidence.max() == 0


def test_the_order_of_the_planes_does_not_matter() -> None:
    planes = smear(3, 4.0).planes
    first = mapped(DepthMapper(HEIGHTS), planes)
    second = mapped(DepthMapper(HEIGHTS[::-1]), planes[::-1])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_looks_no_further_than_it_says() -> None:
    assert DepthConfig().reach == DEPTH_INFO.halo
    assert measure_reach(DepthMapper(HEIGHTS).compute, DEPTH_INFO) == DEPTH_INFO.halo
    config = DepthConfig()
    assert DEPTH_INFO.settings == {
        "detail_sigma": config.detail_sigma,
        "energy_sigma": config.energy_sigma,
        "depth_sigma": config.depth_sigma,
    }


def planned(slide: ArraySlide, planes: int | None = None) -> FusionPlan:
    region = Region(0, 0, *slide.levels[0].shape)
    preset = replace(DEFAULT, tile=176, margin=32)
    return plan_fusion(slide, ARGMAX, slide.planes[:planes], 0, region, preset)


def test_tiles_do_not_show() -> None:
    plan = planned(textured_slide(mpp=(0.25, 0.25), z_um=HEIGHTS))
    method, mappers = ArgmaxMethod(ARGMAX), [depth_mapper(plan)]
    whole = finish(run_fusion(plan, method, mappers)).maps
    assert len(plan.tiles) >= 4
    grid = replace(plan.grid, start=(-40, -72))
    tiles = grid.tiles_for(0, 0, plan.region.height, plan.region.width)
    moved = finish(run_fusion(replace(plan, grid=grid, tiles=tiles), method, mappers)).maps
    np.testing.assert_allclose(whole["depth"], moved["depth"], atol=1e-3)
    assert np.abs(whole["confidence"].astype(int) - moved["confidence"]).max() <= 1
    # Its sharp strips lie in the lowest plane, the middle one, and the highest.
    strips = [whole["depth"][60:240, left : left + 40].mean() for left in (30, 150, 270)]
    np.testing.assert_allclose(strips, HEIGHTS, atol=Z_STEP_UM / 2)


def test_maps_come_with_a_fusion_in_one_call() -> None:
    slide = textured_slide(128, 144, mpp=(0.25, 0.25), z_um=HEIGHTS)
    fusion = fuse(
        slide, planes="three", method="argmax", device="cpu", maps=("depth", "confidence")
    )
    assert fusion.maps["depth"].dtype == np.float32
    assert fusion.maps["confidence"].dtype == np.uint8
    assert fusion.maps["depth"].shape == fusion.image.shape[:2]
    assert fusion.provenance["maps"]["depth"]["unit"] == "um"
    plain = fuse(slide, planes="three", method="argmax", device="cpu")
    np.testing.assert_array_equal(fusion.image, plain.image)


def test_the_unit_is_that_of_the_planes() -> None:
    known = planned(textured_slide(mpp=(0.25, 0.25), z_um=HEIGHTS))
    (mapper,) = load_mappers(["depth", "confidence"], known, "cpu")
    depth, confidence = mapper.maps
    assert (depth.name, depth.unit) == ("depth", "um")
    np.testing.assert_allclose((depth.low, depth.high), (-4.05, 4.05))
    assert (confidence.name, confidence.unit) == ("confidence", None)
    (unknown,) = load_mappers(["depth"], planned(textured_slide()), "cpu")
    assert (unknown.maps[0].unit, unknown.maps[0].low, unknown.maps[0].high) == (
        "planes",
        -1.5,
        1.5,
    )


def test_what_cannot_be_mapped_is_said() -> None:
    plan = planned(textured_slide(), planes=2)
    with pytest.raises(PlaneError, match="at least 3 focus layers, not 2"):
        load_mappers(["depth"], plan, "cpu")
    with pytest.raises(PlaneError, match="same z"):
        DepthMapper([0.0, 1.0, 1.0])
    with pytest.raises(UnknownMapError, match=r"no map 'gold'; choose one of mask, depth"):
        load_mappers(["gold"], plan, "cpu")
