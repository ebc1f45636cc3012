"""How a focal plane is moved onto another: scaled about the centre and shifted, between pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .slide import Region

Float32Image = npt.NDArray[np.float32]
Positions = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PlaneTransform:
    """Where a plane shows what the middle plane shows: scaled about the centre, then shifted."""

    scale: float = 1.0
    y: float = 0.0
    """Shift in pixels of the full size, positive where the plane's content lies further down."""
    x: float = 0.0
    found: bool = True
    """False if no place was better than where the plane lies against its neighbour."""

    @property
    def is_identity(self) -> bool:
        """Whether the plane stays as it is."""
        return (self.scale, self.y, self.x) == (1.0, 0.0, 0.0)

    def then(self, other: PlaneTransform) -> PlaneTransform:
        """Return this transform followed by that of the next plane against this one."""
        return PlaneTransform(
            self.scale * other.scale,
            other.scale * self.y + other.y,
            other.scale * self.x + other.x,
            other.found,
        )

    def reach(self, size: tuple[float, float]) -> float:
        """Return how far, in pixels, a corner of a (height, width) picture moves at most."""
        growth = abs(self.scale - 1) / 2
        return float(np.hypot(growth * size[0] + abs(self.y), growth * size[1] + abs(self.x)))

    def positions(
        self, region: Region, full: tuple[int, int], downsample: tuple[float, float]
    ) -> tuple[Positions, Positions]:
        """Return the plane's rows and columns, in pixels of a level, that a region shows.

        Parameters
        ----------
        region
            In pixels of the level.
        full
            (height, width) in pixels of the full size.
        downsample
            (y, x) pixels of the full size for one of the level.
        """
        rows, columns = (
            self.scale * (np.arange(start, start + count) + 0.5 - centre) + centre - 0.5 + shift
            for start, count, centre, shift in zip(
                (region.y, region.x),
                (region.height, region.width),
                (side / down / 2 for side, down in zip(full, downsample, strict=True)),
                (self.y / downsample[0], self.x / downsample[1]),
                strict=True,
            )
        )
        return np.asarray(rows, np.float64), np.asarray(columns, np.float64)


def describe(transforms: Iterable[PlaneTransform]) -> list[dict[str, Any]]:
    """Return transforms as plain JSON, for the provenance."""
    return [
        {
            "scale": round(move.scale, 7),
            "shift": [round(move.y, 3), round(move.x, 3)],
            "found": move.found,
        }
        for move in transforms
    ]


def describe_briefly(registration: Iterable[Mapping[str, Any]]) -> str:
    """Return one line on what :func:`describe` returned."""
    most = max(float(np.hypot(*entry["shift"])) for entry in registration)
    return f"layers moved onto the middle one, by up to {most:.1f} px"


def resample(
    read: Callable[[Region], Float32Image],
    shape: tuple[int, int],
    rows: Positions,
    columns: Positions,
) -> Float32Image:
    """Return a plane's values at rows x columns between its pixels, the edges repeated.

    Cubic convolution (Keys, IEEE TASSP 29 (1981) 1153), which keeps more of what is in focus than
    bilinear interpolation; scale and shift are separable, so rows and columns go one by one.  A
    pixel comes out the same whatever else is asked for.

    Parameters
    ----------
    read
        Reads a region inside the plane: (height, width, ...) float32.
    shape
        (height, width) of the plane.

    Returns
    -------
    (len(rows), len(columns), ...) float32; may exceed the range of the input by a little
    """
    (tall, down), (wide, right) = _taps(rows, shape[0]), _taps(columns, shape[1])
    y, x = int(tall.min()), int(wide.min())
    values = read(Region(y, x, int(tall.max()) + 1 - y, int(wide.max()) + 1 - x))
    # A weight per row, then per column, the same across whatever follows.
    down, right = (w.reshape(*w.shape, *[1] * (values.ndim - 1)) for w in (down, right))
    values = _weighted(values, tall - y, down).swapaxes(0, 1)
    return np.asarray(_weighted(values, wide - x, right).swapaxes(0, 1), np.float32)


def _weighted(
    values: Float32Image, taps: npt.NDArray[np.int64], weights: Float32Image
) -> Float32Image:
    total: Float32Image = weights[0] * values[taps[0]]
    for at, weight in zip(taps[1:], weights[1:], strict=True):
        total += weight * values[at]
    return total


def _taps(positions: Positions, size: int) -> tuple[npt.NDArray[np.int64], Float32Image]:
    """Return the (4, N) indices, clipped to the plane, and weights of the cubic convolution."""
    first = np.floor(positions)
    f = positions - first
    indices = first.astype(np.int64) + np.arange(-1, 3)[:, None]
    weights = (
        ((1 - f / 2) * f - 0.5) * f,
        (1.5 * f - 2.5) * f**2 + 1,
        ((2 - 1.5 * f) * f + 0.5) * f,
        (f / 2 - 0.5) * f**2,
    )
    return np.clip(indices, 0, size - 1), np.array(weights, dtype=np.float32)
