"""The selection by Laplacian energy against the rule written with SciPy's filters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace, zoom

from napari_focusfuse.fusion.argmax import ArgmaxMethod
from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.models.selection import GREY
from textured_slide import blurred, texture

METHOD = ArgmaxMethod(ARGMAX)


def as_batch(*planes):
    return np.stack(planes)[None].astype(np.float32) / 255


def by_scipy(planes):
    """Fuse (Z, Y, X, 3) planes: energy of blocks of 2 x 2, smoothed; the choice, smoothed."""
    smoothing = {"mode": "nearest", "truncate": 3}
    energies = []
    for plane in planes.astype(np.float64) @ np.array(GREY):
        blocks = (laplace(plane, mode="nearest") ** 2).reshape(
            plane.shape[0] // 2, 2, plane.shape[1] // 2, 2
        )
        smooth = gaussian_filter(
            blocks.mean(axis=(1, 3)), ARGMAX.settings["energy_sigma"] / 2, **smoothing
        )
        energies.append(smooth)
    chosen = np.array(energies) == np.max(energies, axis=0)
    weights = []
    for choice in chosen / chosen.sum(axis=0):
        soft = gaussian_filter(choice, ARGMAX.settings["decision_sigma"] / 2, **smoothing)
        weights.append(zoom(soft, 2, order=1, mode="nearest", grid_mode=True))
    return (np.array(weights)[..., None] * planes).sum(axis=0)


@pytest.mark.parametrize(("count", "shape"), [(1, (32, 40)), (2, (64, 50)), (5, (48, 96))])
def test_it_is_the_rule_on_scipys_filters(count, shape):
    planes = np.stack([texture(*shape, seed) for seed in range(count)]).astype(np.float32) / 255
    np.testing.assert_allclose(METHOD(planes[None])[0], by_scipy(planes), atol=1e-5)


def test_the_sharp_half_of_each_plane_is_picked():
    sharp = texture(96, 128)
    soft = blurred(sharp)
    left, right = sharp.copy(), sharp.copy()
    left[:, 64:], right[:, :64] = soft[:, 64:], soft[:, :64]
    fused = METHOD(as_batch(left, right))[0] * 255
    error = np.abs(fused - sharp)
    away_from_the_border = np.abs(np.arange(128) - 63.5) > ARGMAX.halo
    assert error[:, away_from_the_border].max() < 1e-3
    assert error.mean() < 0.1 * np.abs(soft.astype(float) - sharp).mean()


def test_it_looks_no_further_than_it_says():
    assert measure_reach(METHOD.compute, ARGMAX) == ARGMAX.halo
