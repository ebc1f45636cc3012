"""Whether a blur model's probability ranks blur by its size, and finds the sharpest of planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_focusfuse.models.selection import SelectionConfig, decision_map, select
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.slide import UInt8Image

from .masks import BoolImage

_EVERY = 3
"""Ranks are taken of every third row and column: neighbours say the same."""


def spearman(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], where: BoolImage
) -> float:
    """Return the correlation of the ranks of two (Y, X) maps where a mask holds; ties share ranks.

    NaN where a map has one value only.
    """
    thin = (slice(None, None, _EVERY),) * 2
    ranks = [_ranks(values[thin][where[thin]]) for values in (one, other)]
    if ranks[0].size < 2 or any(np.ptp(r) == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: npt.NDArray[np.float64] = (ends - 0.5 * (counts - 1))[places]
    return mean


def sharpest_plane(planes: UInt8Image) -> npt.NDArray[np.int64]:
    """Return the index of the plane of most Laplacian energy at each pixel.

    Parameters
    ----------
    planes
        (Z, Y, X, 3).

    Returns
    -------
    (Y, X) array
    """
    chosen: npt.NDArray[np.int64] = _decided(_tensor(planes))[0].argmax(dim=0).numpy()
    return chosen


def sharpest(planes: UInt8Image) -> UInt8Image:
    """Return the (Y, X, 3) selection of (Z, Y, X, 3) planes that the networks start from."""
    tensor = _tensor(planes)
    return to_uint8(select(tensor, _decided(tensor))[0].movedim(0, -1).numpy())


def _tensor(planes: UInt8Image) -> Tensor:
    return torch.from_numpy(planes).movedim(-1, 1)[None].float() / 255.0


def _decided(planes: Tensor) -> Tensor:
    return decision_map(planes, SelectionConfig())


@dataclass(frozen=True)
class Agreement:
    """Pixels by how far the plane that is found sharpest lies from the one that is."""

    same: int = 0
    near: int = 0
    """One plane off."""
    far: int = 0

    @classmethod
    def of(
        cls, found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], where: BoolImage
    ) -> Agreement:
        """Count (Y, X) indices of planes where a mask holds."""
        off = np.abs(found - truth)[where]
        return cls(int((off == 0).sum()), int((off == 1).sum()), int((off > 1).sum()))

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.same + other.same, self.near + other.near, self.far + other.far)

    @property
    def exact(self) -> float:
        """Share of the pixels at which both name one plane."""
        return self.same / max(1, self.same + self.near + self.far)

    @property
    def within_one(self) -> float:
        """Share at which they name the same or neighbours."""
        return (self.same + self.near) / max(1, self.same + self.near + self.far)
