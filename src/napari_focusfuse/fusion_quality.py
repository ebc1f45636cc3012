"""How much of its sources a fused image shows, where nobody knows the truth.

Both measures look at grey values, ``0.299 R + 0.587 G + 0.114 B`` rounded to 8 bits.  Neither can
tell detail from noise or halos: a method that sharpens scores well.  Where there is a truth, use
:mod:`napari_focusfuse.metrics`.

Sources: C. S. Xydeas & V. Petrovic, "Objective image fusion performance measure", Electronics
Letters 36 (2000) 308; A. M. Eskicioglu & P. S. Fisher, "Image quality measures and their
performance", IEEE Trans. Commun. 43 (1995) 2959.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from napari_focusfuse.metrics import MetricError, grey
from napari_focusfuse.slide import UInt8Image

FloatMap = npt.NDArray[np.float32]

VARIANTS = MappingProxyType(
    {
        "Q_ABF": "Q^AB/F of Xydeas & Petrovic: edge strength and orientation kept of all sources, "
        "weighted by their edge strength, grey, range 0 to 0.97",
        "SF": "spatial frequency: root mean square of neighbours' differences, grey levels",
    }
)
"""Column names and what each stands for; print it beside every figure."""

# Constants of the paper: maximum, steepness and middle of the two sigmoids.
_STRENGTH = (0.9994, -15.0, 0.5)
_ORIENTATION = (0.9879, -22.0, 0.8)
_RIGHT_ANGLE = np.float32(np.pi / 2)


def q_abf(fused: UInt8Image, sources: Iterable[UInt8Image], border: int = 0) -> float:
    """Return how well the edges of all sources are kept, Xydeas & Petrovic's Q^AB/F.

    Their sum over two sources is taken over any number.  Orientations are compared as those of
    lines, so that an edge and its negative agree, as in Petrovic's own program.

    Parameters
    ----------
    fused
        uint8, (Y, X, 3) or (Y, X).
    sources
        The images it was made of, of the same shape.
    border
        Pixels left out at each side; gradients still look into them.

    Returns
    -------
    In [0, 0.975]; NaN if no source has an edge

    Raises
    ------
    MetricError
        If a source differs from the fused image in shape, or there is none.
    """
    strength, angle = _edges(fused)
    kept = weights = 0.0
    count = 0
    for source in sources:
        if source.shape != fused.shape:
            raise MetricError(
                f"A source has shape {source.shape} and the fused image {fused.shape}; give the "
                "planes it was made of."
            )
        source_strength, source_angle = _edges(source)
        strongest = np.maximum(strength, source_strength)
        ratio = np.minimum(strength, source_strength) / np.where(strongest > 0, strongest, 1)
        turned = np.abs(np.abs(source_angle - angle) / _RIGHT_ANGLE - 1)
        quality = _sigmoid(ratio, _STRENGTH) * _sigmoid(turned, _ORIENTATION)
        kept += float(np.sum(_inside(quality * source_strength, border), dtype=np.float64))
        weights += float(np.sum(_inside(source_strength, border), dtype=np.float64))
        count += 1
    if not count:
        raise MetricError("No source was given; give the planes the image was made of.")
    return kept / weights if weights > 0 else float("nan")


def spatial_frequency(image: UInt8Image, border: int = 0) -> float:
    """Return how much neighbours differ: the root of the mean square along rows and columns.

    Parameters
    ----------
    image
        uint8, (Y, X, 3) or (Y, X).
    border
        Pixels left out at each side.
    """
    values = _inside(grey(image).astype(np.float64), border)
    rows, columns = np.diff(values, axis=1), np.diff(values, axis=0)
    return float(np.sqrt(np.mean(rows * rows) + np.mean(columns * columns)))


def quality(fused: UInt8Image, sources: Iterable[UInt8Image], border: int = 0) -> dict[str, float]:
    """Return one figure for each name of :data:`VARIANTS`, in that order."""
    return {
        "Q_ABF": q_abf(fused, sources, border),
        "SF": spatial_frequency(fused, border),
    }


def _edges(image: UInt8Image) -> tuple[FloatMap, FloatMap]:
    """Return strength and orientation of the (Y, X) Sobel gradient; edges of the image repeat."""
    values = np.pad(grey(image).astype(np.float32), 1, mode="edge")
    rows = values[:-2] + 2 * values[1:-1] + values[2:]
    columns = values[:, :-2] + 2 * values[:, 1:-1] + values[:, 2:]
    right, down = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    # As of a line, from -pi/2 to pi/2; a vanishing gradient has the orientation 0.
    angle = np.arctan2(np.where(right < 0, -down, down), np.abs(right))
    return np.hypot(right, down), np.asarray(angle, dtype=np.float32)


def _sigmoid(values: npt.NDArray[np.floating], constants: tuple[float, float, float]) -> FloatMap:
    maximum, steepness, middle = constants
    return np.asarray(maximum / (1 + np.exp(steepness * (values - middle))), dtype=np.float32)


def _inside(values: npt.NDArray[np.floating], border: int) -> npt.NDArray[np.floating]:
    return values[border : values.shape[0] - border, border : values.shape[1] - border]
