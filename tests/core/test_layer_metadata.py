from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from drawn_slide import Drawn, drawn
from napari_focusfuse.layer_metadata import (
    BLURRED,
    KEY,
    Axes,
    ViewWindow,
    blurred_fraction,
    difference_layer,
    fused_layer,
    map_layer,
    overlay_axes,
    shown_mask,
    slide_axes,
    slide_layers,
    slide_name,
)
from napari_focusfuse.slide import Region, RegionError, Slide, UInt8Image
from napari_focusfuse.slide_array import TILE, SlideArray, TileCache


def stack(slide: Slide, level: int = 0, cache: TileCache | None = None) -> SlideArray:
    return SlideArray(slide, level, cache or TileCache(), slide.planes)


def test_a_window_reads_nothing_until_its_numbers_are_wanted() -> None:
    slide = Drawn()
    window = stack(slide)[:, 100:900, 200:300][1]
    assert (window.shape, window.ndim, window.dtype) == ((800, 100, 3), 3, np.uint8)
    assert slide.reads == []
    assert np.array_equal(np.asarray(window), drawn(1, 0, Region(100, 200, 800, 100)))
    assert {plane for plane, _, _ in slide.reads} == {1}
    assert len(slide.reads) == 2


@pytest.mark.parametrize(
    "key",
    [
        np.s_[1],
        np.s_[-1, 5, 7],
        np.s_[1, 5, 7, 2],
        np.s_[:, 5:9, 7:20],
        np.s_[1, ::50, 1000:10:-90],
        np.s_[::2, 1290:, 1090:2000],
        np.s_[..., 0],
        np.s_[2, ..., 1],
        np.s_[np.int64(1), 3:3],
        np.s_[::-1, 5:7, 5:7],
    ],
)
def test_indexing_is_numpys(key: object) -> None:
    slide = Drawn()
    whole = np.stack([drawn(i, 0, Region(0, 0, 1300, 1100)) for i in range(3)])
    assert np.array_equal(np.asarray(stack(slide)[key]), whole[key])  # type: ignore[index]


def test_a_window_of_a_window_is_taken_in_its_own_pixels() -> None:
    whole = np.stack([drawn(i, 0, Region(0, 0, 1300, 1100)) for i in range(3)])
    taken = np.asarray(stack(Drawn())[1:, 600:, 500:][1][20:40, 5:])
    assert np.array_equal(taken, whole[2][620:640, 505:])


def test_an_index_outside_or_one_too_many_is_refused() -> None:
    array = stack(Drawn())
    with pytest.raises(IndexError):
        array[3]
    with pytest.raises(IndexError):
        array[0, 1300]
    with pytest.raises(IndexError):
        array[0, 0, 0, 0, 0]


def test_a_seen_window_is_not_read_again_and_levels_do_not_mix() -> None:
    slide, cache = Drawn(), TileCache()
    first = np.asarray(stack(slide, 0, cache)[0])
    count = len(slide.reads)
    assert count == 3 * 3
    assert np.array_equal(np.asarray(stack(slide, 0, cache)[0]), first)
    assert len(slide.reads) == count
    coarse = np.asarray(stack(slide, 1, cache)[0])
    assert np.array_equal(coarse, drawn(0, 1, Region(0, 0, 650, 550)))


def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    tile = np.zeros((4, 4, 3), np.uint8)
    cache = TileCache(max_bytes=3 * tile.nbytes)
    reads: list[int] = []

    def get(index: int) -> None:
        def read() -> UInt8Image:
            reads.append(index)
            return tile.copy()

        cache.get((index, 0, 0, 0), read)

    for index in (0, 1, 2, 0, 3, 0, 1):
        get(index)
    assert reads == [0, 1, 2, 3, 1]
    assert cache.nbytes <= cache.max_bytes


def test_many_threads_get_the_right_tiles_and_the_bound_holds() -> None:
    slide = Drawn()
    cache = TileCache(max_bytes=3 * TILE * TILE * 3)
    wrong: list[tuple[int, int]] = []

    def look(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(30):
            plane, y, x = (
                int(random.integers(3)),
                int(random.integers(800)),
                int(random.integers(700)),
            )
            seen = np.asarray(stack(slide, 0, cache)[plane, y : y + 60, x : x + 60])
            if not np.array_equal(seen, drawn(plane, 0, Region(y, x, 60, 60))):
                wrong.append((plane, y))

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.nbytes <= cache.max_bytes


def test_a_window_that_would_take_the_memory_is_refused() -> None:
    array = stack(Drawn(30_000, 30_000))
    with pytest.raises(RegionError, match="900 megapixels"):
        np.asarray(array[0])


def test_layers_of_a_slide_have_one_z_for_all_levels_and_read_nothing() -> None:
    slide = Drawn(3000, 2500, z_um=(-2.7, 0.0, 2.7), extended=True)
    image, extended = slide_layers(slide)
    assert slide.reads == []
    levels, keywords, kind = image
    assert kind == "image"
    assert [level.shape for level in levels] == [
        (3, 3000, 2500, 3),
        (3, 1500, 1250, 3),
        (3, 750, 625, 3),
        (3, 375, 312, 3),
    ]
    assert levels[0].chunks == (1, TILE, TILE, 3)
    assert keywords["scale"] == pytest.approx((2.7, 0.25, 0.5))
    assert keywords["translate"] == (-2.7, 0.0, 0.0)
    assert keywords["units"] == ("um", "um", "um")
    assert keywords["contrast_limits"] == (0, 255)
    assert keywords["metadata"][KEY]["z_um"] == (-2.7, 0.0, 2.7)
    assert extended[0][0].shape == (3000, 2500, 3)
    assert extended[0][0].chunks == (TILE, TILE, 3)
    assert (extended[1]["units"], extended[1]["visible"]) == (("um", "um"), False)
    assert extended[0][0].cache is levels[0].cache


def test_a_slide_of_one_plane_has_no_z_axis() -> None:
    ((levels, keywords, _),) = slide_layers(Drawn(planes=1))
    assert levels[0].shape == (1300, 1100, 3)
    assert keywords["axis_labels"] == ("y", "x")


def test_an_unknown_scale_is_not_invented() -> None:
    axes = slide_axes(Drawn(mpp=None, z_um=(0.0, 1.0, 2.0)))
    assert (axes.scale, axes.units) == ((1.0, 1.0, 1.0), ("pixel", "pixel", "pixel"))
    axes = slide_axes(Drawn())
    assert (axes.scale, axes.units) == ((1.0, 0.25, 0.5), ("pixel", "um", "um"))


def test_the_names_that_layers_get() -> None:
    assert slide_name(Drawn()) == "drawn"
    slide = Drawn()
    slide.path = Path("a/case.7.ndpi")
    assert slide_name(slide) == "case.7"


@pytest.mark.parametrize(
    ("window", "downsample", "expected"),
    [
        (ViewWindow(0, 10.2, 20.8, 30.0, 40.1), (1.0, 1.0), Region(10, 20, 20, 21)),
        (ViewWindow(0, 10.2, 20.8, 30.0, 40.1), (2.0, 4.0), Region(5, 5, 10, 6)),
        (ViewWindow(0, -50.0, -9.0, 5.0, 9999.0), (1.0, 1.0), Region(0, 0, 5, 100)),
        (ViewWindow(0, -50.0, 0.0, -5.0, 10.0), (1.0, 1.0), Region(0, 0, 0, 10)),
    ],
)
def test_the_view_becomes_the_smallest_region_that_covers_it(
    window: ViewWindow, downsample: tuple[float, float], expected: Region
) -> None:
    assert window.at(downsample, (60, 100)) == expected


def test_an_overlay_lies_over_the_pixels_it_was_made_of() -> None:
    slide = Axes((2.0, 0.5, 0.25), (1.0, 100.0, 200.0), ("um",) * 3, ("z", "y", "x"))
    axes = overlay_axes(slide, (4.0, 4.0), (10, 20))
    assert axes.scale == (2.0, 1.0)
    assert axes.labels == ("y", "x")
    # The centre of the overlay's first pixel is the centre of the 4 x 4 pixels it covers.
    centre = 100.0 + 0.5 * (40 + 41 + 42 + 43) / 4, 200.0 + 0.25 * (80 + 81 + 82 + 83) / 4
    assert axes.translate == pytest.approx(centre)


AXES = Axes((0.5, 0.5), (1.0, 2.0), ("um", "um"), ("y", "x"))


def test_results_start_empty_and_carry_units_and_provenance() -> None:
    region = Region(5, 6, 7, 8)
    made = {"method": "argmax"}
    data, keywords, _ = fused_layer(region, AXES, name="fused", provenance=made, complete=False)
    assert (data.shape, data.dtype, data.any()) == ((7, 8, 4), np.uint8, False)
    assert keywords["units"] == ("um", "um")
    assert keywords["metadata"][KEY] == {"kind": "fused", "provenance": made, "complete": False}
    share = {"unit": None, "low": 0.0, "high": 1.0}
    data, keywords, _ = map_layer(region, AXES, "mask", share, name="mask", provenance=made)
    assert (data.shape, keywords["opacity"], keywords["units"]) == ((7, 8), 0.35, ("um", "um"))
    assert keywords["colormap"]["colors"][1] == (1.0, 69 / 255, 58 / 255, 1.0)
    assert keywords["metadata"][KEY]["kind"] == "blur mask"


def test_a_map_with_a_unit_spans_its_range_and_is_clear_where_nothing_is_done() -> None:
    about = {"unit": "um", "low": -2.7, "high": 2.7}
    region = Region(5, 6, 7, 8)
    data, keywords, _ = map_layer(region, AXES, "depth", about, name="depth (um)", provenance={})
    assert (data.shape, data.dtype) == ((7, 8), np.float32)
    assert np.isnan(data).all()
    assert (keywords["contrast_limits"], keywords["colormap"]) == ((-2.7, 2.7), "viridis")
    noted = keywords["metadata"][KEY]
    assert (noted["kind"], noted["map"], noted["unit"]) == ("map", "depth", "um")


def test_a_difference_keeps_its_sign_and_its_limits() -> None:
    difference = np.zeros((2, 2, 3), np.int16)
    difference[0, 0] = (-30, -60, -90)
    data, keywords, _ = difference_layer(difference, AXES, name="difference")
    assert data[0, 0] == -60
    low, high = keywords["contrast_limits"]
    assert low == -high


def test_the_blurred_part_counts_done_foreground_only() -> None:
    rgba = np.zeros((2, 4, 4), np.uint8)
    rgba[..., :3] = (200, 100, 180)
    rgba[0, :, 3] = 255
    rgba[0, 3, :3] = 240
    mask = np.array([[BLURRED, BLURRED - 1, 255, 255], [255] * 4], np.uint8)
    assert blurred_fraction(rgba, mask) == pytest.approx(2 / 3)
    assert blurred_fraction(np.zeros_like(rgba), mask) is None


def test_the_mask_is_shown_where_there_is_something_to_be_blurred() -> None:
    colour = np.array([[[250, 250, 250], [200, 120, 160]]], dtype=np.uint8)
    assert shown_mask(colour, np.array([[255, 200]], dtype=np.uint8)).tolist() == [[0, 200]]
