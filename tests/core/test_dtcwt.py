"""The dual-tree fusion against the same rule on the dtcwt package's transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, uniform_filter

from napari_focusfuse.fusion.bands import vote
from napari_focusfuse.fusion.classical import DTCWT, DTCWT_PLAIN
from napari_focusfuse.fusion.dtcwt import DualTreeMethod, analyse, synthesise, to_complex
from napari_focusfuse.fusion.method import MAX_MARGIN, MethodInfo
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.fusion.region import Preset
from napari_focusfuse.fusion.seams import seam_dependence
from napari_focusfuse.models.selection import GREY
from napari_focusfuse.slide import Region
from textured_slide import planned, texture, textured_slide

METHOD = DualTreeMethod(DTCWT)
LEVELS = DTCWT.settings["levels"]
# Which of the package's six orientations the high-pass along y, along x and along both hold.
ORIENTATIONS = ((0, 5), (2, 3), (1, 4))


@pytest.fixture
def transform(monkeypatch):
    """The package's transform; its last release for NumPy 2 uses two functions that left it."""
    monkeypatch.setattr(np, "asfarray", np.asarray, raising=False)
    monkeypatch.setattr(np, "issubsctype", np.issubdtype, raising=False)
    import dtcwt

    return dtcwt.Transform2d("near_sym_b", "qshift_b")


def test_the_transform_is_that_of_the_dtcwt_package(transform):
    image = np.random.default_rng(0).random((64, 80))
    wanted = transform.forward(image, nlevels=4)
    start = level = torch.from_numpy(image.astype(np.float32))[None, None]
    levels = []
    for depth in range(4):
        level, bands = analyse(level, first=depth == 0)
        levels.append(bands)
        for band, numbers in zip(bands, ORIENTATIONS, strict=True):
            for (real, imaginary), number in zip(to_complex(band), numbers, strict=True):
                found = (real + 1j * imaginary)[0, 0].numpy() * np.sqrt(0.5)
                np.testing.assert_allclose(found, wanted.highpasses[depth][..., number], atol=2e-6)
    np.testing.assert_allclose(level[0, 0], wanted.lowpass, atol=5e-6)
    for depth in (3, 2, 1, 0):
        level = synthesise(level, levels[depth], first=depth == 0)
    np.testing.assert_allclose(level, start, atol=2e-6)


def by_package(planes: np.ndarray, transform) -> np.ndarray:
    """Fuse (Z, Y, X, 3) planes with the package: 3 x 3 window, 3 x 3 vote, mean low-pass."""
    planes = planes.astype(np.float64)
    greys = [transform.forward(plane @ np.array(GREY), nlevels=LEVELS) for plane in planes]
    channels = [[transform.forward(p[..., c], nlevels=LEVELS) for p in planes] for c in range(3)]
    for pyramids in channels:
        pyramids[0].lowpass = np.mean([pyramid.lowpass for pyramid in pyramids], axis=0)
    for depth in range(LEVELS):
        modulus = np.abs([pyramid.highpasses[depth] for pyramid in greys])
        first = maximum_filter(modulus, (1, 3, 3, 1), mode="constant").argmax(axis=0)
        own = (first == np.arange(len(planes)).reshape(-1, 1, 1, 1)).astype(float)
        votes = np.rint(9 * uniform_filter(own, (1, 3, 3, 1), mode="constant"))
        winner = (votes + own / 2).argmax(axis=0)[None]
        for pyramids in channels:
            bands = np.stack([pyramid.highpasses[depth] for pyramid in pyramids])
            pyramids[0].highpasses[depth][:] = np.take_along_axis(bands, winner, axis=0)[0]
    return np.stack([transform.inverse(pyramids[0]) for pyramids in channels], axis=-1)


@pytest.mark.parametrize(("count", "shape"), [(1, (32, 64)), (2, (64, 96)), (5, (96, 64))])
def test_it_is_the_rule_on_the_packages_transform(transform, count, shape):
    planes = np.stack([texture(*shape, seed) for seed in range(count)]).astype(np.float32) / 255
    merged = METHOD.merge(torch.from_numpy(planes).movedim(-1, 1))[0].movedim(0, -1).numpy()
    oracle = by_package(planes, transform)
    np.testing.assert_allclose(merged, oracle, atol=2e-5)
    wanted = np.clip(oracle, planes.min(axis=0), planes.max(axis=0))
    np.testing.assert_allclose(METHOD(planes[None])[0], wanted, atol=2e-5)


def test_a_lone_winner_is_outvoted_and_a_tie_stays_with_its_own():
    winner = torch.zeros(1, 1, 5, 6, dtype=torch.int64)
    winner[..., 3:] = 1
    split = winner.clone()
    winner[..., 2, 1] = 2
    np.testing.assert_array_equal(vote(winner, 3), split)


@pytest.mark.parametrize(("whole", "first"), [(DTCWT, 20), (DTCWT_PLAIN, 16)])
@pytest.mark.parametrize("levels", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_its_reach_doubles_with_each_level_and_ten_pixels(levels, whole, first):
    def reach(levels: int) -> int:
        return first if levels == 1 else 2 * reach(levels - 1) + 10

    assert reach(whole.settings["levels"]) == whole.halo  # itself too slow to measure: minutes
    settings = {**whole.settings, "levels": levels}
    info = MethodInfo("d", "", "selection", None, reach(levels), 2**levels, settings=settings)
    assert measure_reach(DualTreeMethod(info).compute, info, planes=2) == info.halo


def test_tiles_leave_the_picture_alone_though_their_margin_is_shorter_than_its_reach():
    assert DTCWT.halo > MAX_MARGIN  # by far the most of what lies beyond has no weight to speak of
    slide = textured_slide(200, 220)
    plan = planned(slide, METHOD, Region(0, 0, 200, 220), Preset("small", 416, MAX_MARGIN, 32))
    assert len(plan.tiles) == 4
    assert seam_dependence(plan, METHOD).maximum <= 1
