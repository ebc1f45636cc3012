"""What holds for every method that selects, by its name in the catalogue."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_focusfuse.fusion.bands import BandMethod, within_sources
from napari_focusfuse.fusion.catalogue import available_methods, load_method
from napari_focusfuse.fusion.classical import PLAIN
from napari_focusfuse.fusion.complex_wavelet import ComplexWaveletMethod
from napari_focusfuse.fusion.method import FusionMethod
from textured_slide import blurred, texture

METHODS = [info.name for info in (*available_methods(), *PLAIN) if info.kind == "selection"]


@pytest.fixture(scope="module", params=METHODS)
def method(request) -> FusionMethod:
    return load_method(request.param, "cpu")


def as_batch(*planes):
    return np.stack(planes)[None].astype(np.float32) / 255


def test_no_colour_leaves_the_span_of_its_sources(method):
    planes = as_batch(*(texture(64, 96, seed) for seed in range(4)))
    fused = method.compute(planes)  # before it is clipped to [0, 1]
    assert (fused >= planes.min(axis=1) - 1e-6).all()
    assert (fused <= planes.max(axis=1) + 1e-6).all()
    # Bands put together leave the span by themselves, so the test shows something.
    if isinstance(method, BandMethod) and not isinstance(method, ComplexWaveletMethod):
        tensor = torch.from_numpy(planes[0]).movedim(-1, 1)
        merged = method.merge(tensor)
        assert (merged - within_sources(merged, tensor)).abs().max() > 0.01


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_planes_stay_as_they_are(method, count):
    image = texture(64, 96)
    np.testing.assert_allclose(method(as_batch(*[image] * count)), as_batch(image)[0], atol=1e-6)


def test_constant_planes_give_a_constant_between_them(method):
    planes = as_batch(*(np.full((64, 64, 3), value, np.uint8) for value in (40, 50, 90)))
    fused = method(planes)
    assert np.ptp(fused) < 1e-6
    assert 40 <= fused.mean() * 255 <= 90


def test_the_sharp_half_of_each_plane_is_picked(method):
    sharp = texture(96, 128)
    soft = blurred(sharp)
    left, right = sharp.copy(), sharp.copy()
    left[:, 64:], right[:, :64] = soft[:, 64:], soft[:, :64]
    error = np.abs(method(as_batch(left, right))[0] * 255 - sharp)
    assert error.mean() < 0.25 * np.abs(soft.astype(float) - sharp).mean()


def test_grey_planes_give_a_grey_image(method):
    grey = [np.repeat(texture(64, 64, seed)[..., :1], 3, axis=-1) for seed in range(3)]
    fused = method(as_batch(*grey))
    np.testing.assert_allclose(fused[..., 0], fused[..., 2], atol=1e-6)


def test_a_stack_comes_out_alike_alone_and_in_company(method):
    batch = np.concatenate([as_batch(texture(64, 64, s), texture(64, 64, s + 1)) for s in (0, 5)])
    np.testing.assert_array_equal(method(batch)[1], method(batch[1:])[0])


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("dtcwt")])
def test_a_plane_of_which_nothing_is_stored_does_not_win(name):
    method, sharp = load_method(name, "cpu"), texture(384, 384)
    soft = blurred(sharp)
    noise = np.random.default_rng(0).normal(0, 2, (3, *sharp.shape))
    planes = np.clip(np.stack([soft, sharp, soft]) + noise, 0, 255).round()
    missing = planes.copy()
    missing[2, 32:352, 32:352] = 255
    inside = np.s_[160:224, 160:224]
    error = (method(as_batch(*missing))[0] * 255 - sharp)[inside]
    without = (method(as_batch(*planes[:2]))[0] * 255 - sharp)[inside]
    assert abs(error.mean()) < 1
    assert np.abs(error).mean() < np.abs(without).mean() + 0.5
