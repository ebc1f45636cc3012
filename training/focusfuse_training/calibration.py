"""Whether a model's expected error is right: counts that add up over pictures, and what they say.

A model gives each pixel the mean absolute error to expect of its colours.  An interval is honest if
it holds the truth as often as it says.  *Split conformal prediction* (Papadopoulos et al. 2002;
Lei et al. 2018, JASA 113:1094) finds on pictures that trained nothing the factor ``q`` with

    ``|output - truth| <= q * expected + half a grey level``

for 90 % of the colour values, output and truth being 8-bit; the half is their rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import UInt8Image

Counts = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

COVERAGE = 0.9
"""Share of the colour values whose truth the interval shall hold."""
LARGE = 8.0
"""Mean absolute error of a pixel in grey levels from above which it counts as large."""
ROUNDING = 0.5
"""Grey levels."""

_EDGES = np.geomspace(1e-3, 1e4, 4097)
"""Of the bins in which ratios are counted: 0.4 % wide."""
_ERROR_EDGES = np.geomspace(1e-3, 255.0, 2049)
"""Of the bins in which expected errors are counted, grey levels."""


def _nothing(bins: int) -> Counts:
    return np.zeros(bins, dtype=np.int64)


@dataclass(frozen=True)
class ErrorTally:
    """How real errors compare with expected ones, over any number of pictures."""

    ratios: Counts = field(default_factory=lambda: _nothing(_EDGES.size + 1))
    """Colour values by the factor that their interval would need."""
    large: Counts = field(default_factory=lambda: _nothing(_ERROR_EDGES.size + 1))
    """Pixels of large error by their expected one."""
    small: Counts = field(default_factory=lambda: _nothing(_ERROR_EDGES.size + 1))
    """The other pixels."""

    @classmethod
    def of(
        cls, image: UInt8Image, expected: Float32Array, truth: UInt8Image, border: int = 0
    ) -> ErrorTally:
        """Count one picture.

        Parameters
        ----------
        image, truth
            (Y, X, 3).
        expected
            (Y, X): mean absolute error to expect of the three colours, in units of white.
        border
            Pixels at each side that do not count.
        """
        rows, columns = (slice(border, side - border) for side in expected.shape)
        error = np.abs(image[rows, columns].astype(np.float32) - truth[rows, columns])
        levels = np.maximum(255 * expected[rows, columns], np.float32(1e-6))
        needed = np.maximum(error - ROUNDING, 0) / levels[..., None]
        is_large = error.mean(axis=2) > LARGE
        return cls(
            _histogram(needed, _EDGES),
            _histogram(levels[is_large], _ERROR_EDGES),
            _histogram(levels[~is_large], _ERROR_EDGES),
        )

    def __add__(self, other: ErrorTally) -> ErrorTally:
        return ErrorTally(
            self.ratios + other.ratios, self.large + other.large, self.small + other.small
        )

    def factor(self, coverage: float = COVERAGE) -> float:
        """Return the least factor that covers such a share of the values counted, and one more.

        The one more is conformal prediction's correction for a finite sample.  It takes the values
        for exchangeable.  Those of one field are not quite, and another field differs by more than
        the correction: coverage elsewhere has to be measured.
        """
        count = int(self.ratios.sum())
        wanted = min(count, math.ceil(coverage * (count + 1)))
        index = int(np.searchsorted(np.cumsum(self.ratios), wanted))
        return float(_EDGES[min(index, _EDGES.size - 1)])

    def coverage(self, factor: float) -> float:
        """Return the share of the values whose interval of that factor holds the truth."""
        index = int(np.searchsorted(_EDGES, factor, side="left"))
        return float(self.ratios[: index + 1].sum() / max(1, self.ratios.sum()))

    def auroc(self) -> float:
        """Return how likely a pixel of large error was expected to err more than another.

        Half of the ties count; NaN if all pixels are of one kind.
        """
        large, small = int(self.large.sum()), int(self.small.sum())
        if not (large and small):
            return math.nan
        below = np.cumsum(self.small) - self.small
        return float((self.large * (below + 0.5 * self.small)).sum() / large / small)


def _histogram(values: Float32Array, edges: npt.NDArray[np.float64]) -> Counts:
    """Count values between edges; bin ``i`` ends at edge ``i`` and holds it."""
    places = np.searchsorted(edges, values.ravel(), side="left")
    return np.bincount(places, minlength=edges.size + 1).astype(np.int64)
