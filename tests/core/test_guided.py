"""The guided-filter fusion against the rule written with SciPy's filters in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, laplace, uniform_filter

from napari_focusfuse.fusion.classical import GUIDED
from napari_focusfuse.fusion.guided import GuidedMethod, box_mean, guided_filter
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.models.selection import GREY
from textured_slide import texture

METHOD = GuidedMethod(GUIDED)


def box(image, radius):
    return uniform_filter(image, 2 * radius + 1, mode="reflect")


def guided(image, guide, radius, epsilon):
    """He's equations: a = cov / (var + eps), b = mean p - a mean I, q = mean a I + mean b."""
    covariance = box(guide * image, radius) - box(guide, radius) * box(image, radius)
    variance = box(guide**2, radius) - box(guide, radius) ** 2
    a = covariance / (variance + epsilon)
    b = box(image, radius) - a * box(guide, radius)
    return box(a, radius) * guide + box(b, radius)


def by_scipy(planes):
    planes = planes.astype(np.float64)
    greys = planes @ np.array(GREY)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 5) ** 2)
    taps /= taps.sum()
    sharpness = np.abs([laplace(grey, mode="nearest") for grey in greys])
    for axis in (1, 2):
        sharpness = correlate1d(sharpness, taps, axis=axis, mode="nearest")
    sharpest = (sharpness == sharpness.max(axis=0)).astype(float)
    base = np.stack([uniform_filter(p, (31, 31, 0), mode="reflect") for p in planes])
    total = 0
    for bands, radius, epsilon in ((base, 45, 0.3), (planes - base, 7, 1e-6)):
        pairs = zip(sharpest, greys, strict=True)
        weights = np.stack([np.clip(guided(*p, radius, epsilon), 0, 1) for p in pairs]) + 1e-6
        total += (bands * weights[..., None]).sum(axis=0) / weights.sum(axis=0)[..., None]
    return np.clip(total, planes.min(axis=0), planes.max(axis=0))


@pytest.mark.parametrize(("count", "shape"), [(1, (48, 64)), (2, (100, 120)), (5, (64, 50))])
def test_it_is_the_rule_on_scipys_filters(count, shape):
    planes = np.stack([texture(*shape, seed) for seed in range(count)]).astype(np.float32) / 255
    np.testing.assert_allclose(METHOD(planes[None])[0], by_scipy(planes), atol=2e-4)


@pytest.mark.parametrize("radius", [0, 3, 40])
def test_the_mean_is_scipys_and_takes_every_pixel_alike(radius):
    image = np.random.default_rng(0).random((30, 50)).astype(np.float32)
    found = box_mean(torch.from_numpy(image)[None, None], radius)[0, 0]
    np.testing.assert_allclose(found, box(image.astype(np.float64), radius), atol=1e-6)
    wide = torch.from_numpy(np.tile(image, (1, 3)))[None, None]
    inner = box_mean(wide, 3)
    assert torch.equal(inner[..., 53:97], box_mean(wide[..., 50:], 3)[..., 3:47])


def test_a_choice_follows_the_edge_of_its_guide():
    guide = torch.zeros(1, 1, 40, 60)
    guide[..., 30:] = 1
    noisy = (guide + torch.from_numpy(np.random.default_rng(0).normal(0, 0.2, (40, 60)))).float()
    error = (guided_filter(noisy, guide, 7, 1e-4) - guide).abs()
    assert error.max() < 0.12  # both sides of the edge alike


def test_it_looks_no_further_than_it_says():
    assert measure_reach(METHOD.compute, GUIDED, planes=2) == GUIDED.halo
