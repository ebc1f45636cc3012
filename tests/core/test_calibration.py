"""Intervals from expected errors hold the truth as often as they say."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from focusfuse_training.calibration import LARGE, ErrorTally

SHAPE = (120, 140)


def drawn(seed: int, boast: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, what it expects of its error, and the truth: Laplace errors of varying size."""
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(2.5, 0.3, SHAPE)).astype(np.float32)
    error = rng.laplace(0, mean[..., None], (*SHAPE, 3))
    truth = np.full((*SHAPE, 3), 128, dtype=np.uint8)
    image = np.clip(np.rint(truth + error), 0, 255).astype(np.uint8)
    return image, mean / 255 / boast, truth


def test_the_factor_of_laplace_errors_is_known_and_covers_as_often_elsewhere() -> None:
    factor = ErrorTally.of(*drawn(0)).factor()
    assert factor == pytest.approx(math.log(10), rel=0.04)
    assert ErrorTally.of(*drawn(1)).coverage(factor) == pytest.approx(0.9, abs=0.01)
    assert ErrorTally.of(*drawn(1)).coverage(factor / 2) < 0.75


def test_a_model_that_boasts_gets_a_larger_factor() -> None:
    honest, boasting = ErrorTally.of(*drawn(0)), ErrorTally.of(*drawn(0, boast=2.0))
    assert boasting.factor() == pytest.approx(2 * honest.factor(), rel=0.01)
    assert boasting.coverage(boasting.factor()) == pytest.approx(0.9, abs=0.005)


def test_coverage_is_that_of_the_definition() -> None:
    image, expected, truth = drawn(2)
    inside = np.abs(image.astype(float) - truth) <= 1.7 * 255 * expected[..., None] + 0.5
    assert ErrorTally.of(image, expected, truth).coverage(1.7) == pytest.approx(
        inside.mean(), abs=0.002
    )
    assert ErrorTally.of(image, expected, truth, 10).coverage(1.7) == pytest.approx(
        inside[10:-10, 10:-10].mean(), abs=0.002
    )


def test_auroc_is_scikit_learns() -> None:
    image, expected, truth = drawn(3)
    large = np.abs(image.astype(float) - truth).mean(axis=2) > LARGE
    wanted = roc_auc_score(large.ravel(), expected.ravel())
    assert ErrorTally.of(image, expected, truth).auroc() == pytest.approx(wanted, abs=2e-3)
    assert math.isnan(ErrorTally.of(truth, expected, truth).auroc())


def test_tallies_add_up() -> None:
    image, expected, truth = drawn(4)
    halves = [ErrorTally.of(image[rows], expected[rows], truth[rows]) for rows in HALVES]
    whole, total = ErrorTally.of(image, expected, truth), halves[0] + halves[1]
    assert total.factor() == whole.factor()
    assert total.auroc() == whole.auroc()


HALVES = (slice(0, 50), slice(50, None))
