"""Measures that need only how often each pair of grey values occurs.

Histograms of the parts of an image add up to that of the image, so these measures are exact for
images of any size.  Sources: as in :mod:`napari_focusfuse.metrics`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

IntTable = npt.NDArray[np.int64]
UInt8Image = npt.NDArray[np.uint8]

C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2
"""Constants of SSIM (Wang et al., 2004) at L = 255."""


def joint_histogram(x: UInt8Image, y: UInt8Image) -> IntTable:
    """Return how often each pair of grey values occurs.

    Parameters
    ----------
    x, y
        uint8 grey values, of one shape.

    Returns
    -------
    (256, 256) int64 array; rows are the values of ``x``
    """
    pairs = 256 * x.ravel().astype(np.int64) + y.ravel()
    return np.bincount(pairs, minlength=256 * 256).reshape(256, 256)


def ssim_global_of(joint: IntTable) -> float:
    """Return :func:`metrics.ssim_global` from a joint histogram."""
    mean_x, mean_y, var_x, var_y, covariance = _moments(joint)
    return float(
        (2 * mean_x * mean_y + C1)
        * (2 * covariance + C2)
        / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    )


def cc_of(joint: IntTable) -> float:
    """Return :func:`metrics.cc` from a joint histogram."""
    _, _, var_x, var_y, covariance = _moments(joint)
    scale = math.sqrt(var_x * var_y)
    return covariance / scale if scale > 0 else float("nan")


def q_mi_of(joint: IntTable) -> float:
    """Return :func:`metrics.q_mi` from a joint histogram."""
    shares = joint / joint.sum()
    entropies = _entropy(shares.sum(axis=1)) + _entropy(shares.sum(axis=0))
    if entropies == 0:
        return 1.0
    return max(0.0, 2 * (entropies - _entropy(shares)) / entropies)


def _moments(joint: IntTable) -> tuple[float, float, float, float, float]:
    """Return both means, both variances and the covariance of a joint histogram."""
    values, count = np.arange(256, dtype=np.float64), joint.sum()
    of_x, of_y = joint.sum(axis=1), joint.sum(axis=0)
    mean_x, mean_y = float(of_x @ values / count), float(of_y @ values / count)
    x, y = values - mean_x, values - mean_y
    spread = float(of_x @ (x * x) / count), float(of_y @ (y * y) / count)
    return mean_x, mean_y, *spread, float(x @ joint @ y / count)


def _entropy(probabilities: npt.NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0]
    return float(-np.sum(positive * np.log2(positive)))
