from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from napari_focusfuse.fusion.catalogue import PYRAMID
from napari_focusfuse.fusion.pyramid import KERNEL, PyramidMethod, expand, reduce
from napari_focusfuse.fusion.reach import measure_reach
from textured_slide import blurred, texture

METHOD = PyramidMethod(PYRAMID)


def as_batch(*planes):
    return np.stack(planes)[None].astype(np.float32) / 255


def as_tensor(image):
    return torch.from_numpy(image).movedim(-1, 0)[None]


def test_reduce_and_expand_are_burt_and_adelsons():
    image = np.random.default_rng(0).random((32, 48, 3))
    smooth = convolve1d(convolve1d(image, KERNEL, 0, mode="nearest"), KERNEL, 1, mode="nearest")
    coarse = reduce(as_tensor(image.astype(np.float32)))
    np.testing.assert_allclose(coarse[0].movedim(0, -1), smooth[::2, ::2], atol=1e-6)
    # Expansion by its definition: zeros between the samples, then four times the kernel.
    spread = np.zeros_like(image)
    spread[::2, ::2] = smooth[::2, ::2]
    taps = 2 * np.array(KERNEL)
    wanted = convolve1d(convolve1d(spread, taps, 0, mode="constant"), taps, 1, mode="constant")
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(expand(coarse)[0].movedim(0, -1)[inner], wanted[inner], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_planes_stay_as_they_are(count):
    image = texture(64, 80)
    np.testing.assert_allclose(METHOD(as_batch(*[image] * count)), as_batch(image)[0], atol=1e-6)


def test_the_sharp_half_of_each_plane_is_picked():
    sharp = texture(96, 128)
    soft = blurred(sharp)
    left, right = sharp.copy(), sharp.copy()
    left[:, 64:], right[:, :64] = soft[:, 64:], soft[:, :64]
    error = np.abs(METHOD(as_batch(left, right))[0] * 255 - sharp)
    assert error.mean() < 0.25 * np.abs(soft.astype(float) - sharp).mean()


def test_grey_planes_give_a_grey_image():
    grey = [np.repeat(texture(64, 64, seed)[..., :1], 3, axis=-1) for seed in range(3)]
    fused = METHOD(as_batch(*grey))
    np.testing.assert_allclose(fused[..., 0], fused[..., 2], atol=1e-6)


def test_the_result_stays_in_range():
    extremes = [np.where(texture(64, 64, seed) > 128, 255, 0).astype(np.uint8) for seed in (1, 2)]
    raw = METHOD.compute(as_batch(*extremes))
    assert raw.max() > 1  # else the test shows nothing
    fused = METHOD(as_batch(*extremes))
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="does not take"):
        METHOD(np.zeros((1, 2, 40, 64, 3), np.float32))


@pytest.mark.slow
def test_it_looks_no_further_than_it_says():
    assert measure_reach(METHOD.compute, PYRAMID, planes=2) == PYRAMID.halo
