"""Ranks of blur, and which plane is sharpest."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from focusfuse_training.blur_ranks import Agreement, sharpest, sharpest_plane, spearman
from napari_focusfuse.defocus import gaussian_blur

RNG = np.random.default_rng(0)


def test_ranks_correlate_as_scipy_says_ties_included() -> None:
    one = RNG.integers(0, 9, (60, 60)).astype(np.float32)
    other = one + RNG.normal(0, 3, one.shape).astype(np.float32)
    where = RNG.random(one.shape) < 0.5
    thin = where[::3, ::3]
    wanted = spearmanr(one[::3, ::3][thin], other[::3, ::3][thin]).statistic
    assert spearman(one, other, where) == pytest.approx(wanted)
    assert spearman(one, np.exp(one), where) == pytest.approx(1.0)
    assert math.isnan(spearman(one, np.ones_like(one), where))


def test_the_sharpest_plane_is_found_and_selected() -> None:
    scene = RNG.integers(0, 256, (64, 96, 3)).astype(np.float32)
    soft = np.rint(gaussian_blur(scene, 2.0)).astype(np.uint8)
    sharp = scene.astype(np.uint8)
    planes = np.stack([soft, soft, soft])
    planes[0, :, :48], planes[2, :, 48:] = sharp[:, :48], sharp[:, 48:]
    chosen = sharpest_plane(planes)
    assert (chosen[:, :40] == 0).all()
    assert (chosen[:, 56:] == 2).all()
    assert np.array_equal(sharpest(planes)[:, :32], sharp[:, :32])


def test_agreement_counts_neighbours() -> None:
    truth = np.array([[0, 1, 2, 3, 4]])
    found = Agreement.of(np.array([[0, 2, 2, 1, 0]]), truth, truth != 4)
    assert found == Agreement(2, 1, 1)
    assert found + found == Agreement(4, 2, 2)
    assert (found.exact, found.within_one) == (0.5, 0.75)
