"""Arithmetic on 8-bit pixels."""

import numpy as np

from napari_focusfuse.pixels import halve, to_uint8


def test_values_are_rounded_at_the_door() -> None:
    levels = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(to_uint8(levels / 255), levels)
    np.testing.assert_array_equal(
        to_uint8(np.array([-1, 0.4999 / 255, 0.51 / 255, 2])), [0, 0, 1, 255]
    )


def test_halving_rounds_the_mean_and_drops_an_odd_edge() -> None:
    image = np.array([[0, 1, 9], [1, 0, 9], [9, 9, 9]], dtype=np.uint8)
    assert halve(image).tolist() == [[1]]  # 2 / 4 rounds up
    assert halve(np.stack([image] * 3, axis=-1)).tolist() == [[[1, 1, 1]]]
