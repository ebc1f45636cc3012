"""The wavelet fusion against the same rule on PyWavelets' transform."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch

from napari_focusfuse.fusion.classical import WAVELET
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.fusion.wavelet import WaveletMethod
from napari_focusfuse.models.selection import GREY
from textured_slide import texture

METHOD = WaveletMethod(WAVELET)


def by_pywavelets(planes: np.ndarray) -> np.ndarray:
    """Fuse (Z, Y, X, 3) planes: mean approximation, each detail from the largest of the greys."""
    axes = {"wavelet": "db2", "mode": "symmetric", "axes": (0, 1)}
    ofs = [pywt.wavedec2(plane, level=4, **axes) for plane in planes.astype(np.float64)]
    fused = [np.mean([coefficients[0] for coefficients in ofs], axis=0)]
    for level in range(1, 5):
        bands = np.array([of[level] for of in ofs])
        winner = np.abs(bands @ np.array(GREY)).argmax(axis=0)
        fused.append(tuple(np.take_along_axis(bands, winner[None, ..., None], axis=0)[0]))
    return pywt.waverec2(fused, **axes)


@pytest.mark.parametrize(("count", "shape"), [(1, (48, 64)), (2, (48, 80)), (5, (64, 112))])
def test_it_is_the_rule_on_pywavelets_transform(count, shape):
    planes = np.stack([texture(*shape, seed) for seed in range(count)]).astype(np.float32) / 255
    merged = METHOD.merge(torch.from_numpy(planes).movedim(-1, 1))[0].movedim(0, -1).numpy()
    oracle = by_pywavelets(planes)
    np.testing.assert_allclose(merged, oracle, atol=1e-5)
    wanted = np.clip(oracle, planes.min(axis=0), planes.max(axis=0))
    np.testing.assert_allclose(METHOD(planes[None])[0], wanted, atol=1e-5)


def test_it_looks_no_further_than_it_says():
    assert measure_reach(METHOD.compute, WAVELET, planes=2) == WAVELET.halo
