"""What a model is told of planes and pixels."""

import math

import pytest

from napari_focusfuse.sampling import TYPICAL_GAP_UM, TYPICAL_MPP, Sampling


def test_what_is_unknown_counts_as_typical() -> None:
    assert Sampling.of([None, 0.0, 2.0], None).octaves() == (0.0, 0.0, 0.0)
    typical = Sampling.of([-TYPICAL_GAP_UM, 0.0, TYPICAL_GAP_UM], TYPICAL_MPP)
    assert typical.octaves() == (0.0, 0.0, 0.0)


def test_ratios_count_and_order_does_not() -> None:
    rising = Sampling.of([0.0, 1.0, 5.0], (0.25, 1.0))
    assert rising.octaves() == (-1.0, 1.0, 1.0)
    assert Sampling.of([5.0, 1.0, 0.0], 0.5).octaves() == (1.0, -1.0, 1.0)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_impossible_numbers_do_no_harm(wrong: float) -> None:
    octaves = Sampling((wrong,), wrong).octaves()
    assert all(-3 <= value <= 3 for value in octaves)
