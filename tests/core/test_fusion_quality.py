"""Quality without a reference: against a direct form, and known values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import sobel

from napari_focusfuse.fusion_quality import VARIANTS, q_abf, quality, spatial_frequency
from napari_focusfuse.metrics import MetricError
from textured_slide import blurred, texture

BEST = 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))


def direct(fused: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Xydeas and Petrovic's formulas (1) to (8) for two grey sources."""

    def edges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = (sobel(image.astype(float), axis=axis, mode="nearest") for axis in (1, 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            angle = np.nan_to_num(np.arctan(y / x), nan=0.0)
        return np.hypot(x, y), angle

    strength_f, angle_f = edges(fused)
    top = bottom = 0.0
    for source in (first, second):
        strength, angle = edges(source)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(strength > strength_f, strength_f / strength, strength / strength_f)
        ratio = np.nan_to_num(ratio, nan=0.0)
        turned = np.abs(np.abs(angle - angle_f) - np.pi / 2) * 2 / np.pi
        kept = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        kept *= 0.9879 / (1 + np.exp(-22 * (turned - 0.8)))
        top += (kept * strength).sum()
        bottom += strength.sum()
    return float(top / bottom)


def test_it_is_the_papers_form_for_two_sources() -> None:
    first, second = texture(50, 61)[..., 0], blurred(texture(50, 61, 1))[..., 0]
    for fused in (first, second, ((first.astype(int) + second) // 2).astype(np.uint8)):
        assert q_abf(fused, [first, second]) == pytest.approx(
            direct(fused, first, second), abs=1e-5
        )


def test_a_copy_of_its_source_keeps_all_and_an_empty_image_nothing() -> None:
    image = texture(40, 40)
    assert q_abf(image, [image] * 3) == pytest.approx(BEST, abs=1e-5)
    assert q_abf(np.full_like(image, 90), [image]) < 0.01
    assert np.isnan(q_abf(image, [np.full_like(image, 90)]))


def test_the_sharper_fusion_of_two_planes_keeps_more() -> None:
    sharp = texture(64, 96)
    left, right = sharp.copy(), sharp.copy()
    left[:, 48:], right[:, :48] = blurred(sharp)[:, 48:], blurred(sharp)[:, :48]
    mean = ((left.astype(int) + right) // 2).astype(np.uint8)
    assert q_abf(sharp, [left, right]) > q_abf(mean, [left, right])
    assert spatial_frequency(sharp) > spatial_frequency(mean)


def test_spatial_frequency_of_known_patterns() -> None:
    stripes = np.tile(np.array([0, 10], np.uint8), (8, 4))
    assert spatial_frequency(stripes) == pytest.approx(10.0)
    board = (10 * (np.indices((8, 8)).sum(axis=0) % 2)).astype(np.uint8)
    assert spatial_frequency(board) == pytest.approx(10 * np.sqrt(2))
    board[0] = 255
    assert spatial_frequency(board, border=1) == pytest.approx(10 * np.sqrt(2))


def test_figures_carry_their_names() -> None:
    image = texture(32, 32)
    assert tuple(quality(image, [image])) == tuple(VARIANTS)


def test_what_cannot_be_judged_is_said() -> None:
    image = texture(32, 32)
    with pytest.raises(MetricError, match="A source has shape"):
        q_abf(image, [image[1:]])
    with pytest.raises(MetricError, match="No source"):
        q_abf(image, [])
