"""Arithmetic on 8-bit pixels that must come out the same everywhere."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from .slide import UInt8Image


def to_uint8(image: npt.NDArray[np.floating]) -> UInt8Image:
    """Return a [0, 1] image as uint8, rounded: truncation would darken it by half a grey level."""
    rounded: UInt8Image = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return rounded


Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])


def halve(image: Pixels) -> Pixels:
    """Return the mean of each 2 x 2 pixels; of integers ``(sum + 2) // 4``.

    Parameters
    ----------
    image
        (Y, X) or (Y, X, 3) uint8 or float32; an odd last row or column is dropped.

    Returns
    -------
    (Y // 2, X // 2) or (Y // 2, X // 2, 3) array of the same type
    """
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    wide = np.float32 if image.dtype == np.float32 else np.uint16
    rows = image[0:height:2].astype(wide) + image[1:height:2]
    total = rows[:, 0:width:2] + rows[:, 1:width:2]
    mean = total / np.float32(4) if wide is np.float32 else (total + 2) >> 2
    return cast(Pixels, mean.astype(image.dtype))
