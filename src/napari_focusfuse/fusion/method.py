"""What every fusion method, classical or neural, says of itself.  This module needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32Image = npt.NDArray[np.float32]

MAX_MARGIN = 128
"""Largest dead margin in pixels; a method that looks further is anchored only, never exact."""


@dataclass(frozen=True)
class MethodInfo:
    """The declaration by which the tiler, the dock and the shell treat all methods alike."""

    name: str
    """What ``--method`` takes, such as ``"pyramid"``."""
    title: str
    """What the user reads, such as ``"Laplacian pyramid"``."""
    kind: str
    """``"selection"`` (picks or blends pixels) or ``"restoration"`` (infers them)."""
    plane_offsets: tuple[int, ...] | None
    """Offsets from layer 0 in steps of ``z_step_um``, in input order; None: any number of planes."""
    halo: int
    """Reach in pixels: how far an output pixel looks to each side."""
    multiple_of: int = 1
    """Height and width of a tile, and its origin, must be multiples of this many pixels."""
    z_step_um: float | None = None
    """The step between planes the method was made for, or None if it does not care."""
    mpp: float | None = None
    """The micrometres per pixel the method was made for, or None if it does not care."""
    model_hash: str | None = None
    """SHA-256 of the weights, or None for a classical method."""
    settings: dict[str, str | int | float] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether the dead margin covers the reach, so that the tile grid changes nothing."""
        return self.halo <= MAX_MARGIN

    @property
    def margin(self) -> int:
        """Dead margin in pixels at each side of a tile, a multiple of 8."""
        return min(-(-self.halo // 8) * 8, MAX_MARGIN)


class FusionMethod(ABC):
    """Fuses stacks of focal planes; made by :func:`napari_focusfuse.fusion.load_method`."""

    info: MethodInfo

    @abstractmethod
    def __call__(self, stacks: Float32Image) -> Float32Image:
        """Fuse a batch of tiles.

        Parameters
        ----------
        stacks
            (B, Z, Y, X, 3) float32 array in [0, 1]; Z in the order of ``info.plane_offsets``, or by
            increasing z; Y and X multiples of ``info.multiple_of``.

        Returns
        -------
        (B, Y, X, 3) float32 array in [0, 1]
        """
