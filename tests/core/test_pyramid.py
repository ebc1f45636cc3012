from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from napari_focusfuse.fusion.classical import PYRAMID, PYRAMID_PLAIN
from napari_focusfuse.fusion.pyramid import KERNEL, PyramidMethod, expand, reduce
from napari_focusfuse.fusion.reach import measure_reach
from textured_slide import texture

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


def test_the_result_stays_in_range_where_the_bands_together_leave_it():
    extremes = [np.where(texture(64, 64, seed) > 128, 255, 0).astype(np.uint8) for seed in (1, 2)]
    planes = torch.cat([as_tensor(image.astype(np.float32) / 255) for image in extremes])
    assert METHOD.merge(planes).max() > 1  # else the test shows nothing
    fused = METHOD(as_batch(*extremes))
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="does not take"):
        METHOD(np.zeros((1, 2, 40, 64, 3), np.float32))


@pytest.mark.parametrize("info", [PYRAMID, PYRAMID_PLAIN])
def test_it_looks_no_further_than_it_says(info):
    assert measure_reach(PyramidMethod(info).compute, info, planes=2) == info.halo
