"""What every fusion method, classical or neural, says of itself.  This module needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import FocusFuseError

Float32Image = npt.NDArray[np.float32]

MAX_MARGIN = 128
"""Largest dead margin in pixels; a method that looks further is anchored only, never exact."""


class FusionError(FocusFuseError, RuntimeError):
    """A fusion cannot be done, or its result would be wrong."""


class UnknownMethodError(FocusFuseError, LookupError):
    """No fusion method has the name that was given."""

    exit_code = 1


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
    """Offsets from layer 0 in steps of ``z_step_um``, in input order; None: any number."""
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
    weights: Path | None = None
    """The model file, or None for a classical method."""
    settings: dict[str, str | int | float] = field(default_factory=dict)
    """What else decides the result, such as the number of pyramid levels."""
    offers: tuple[MapInfo, ...] = ()
    """Maps it makes in the same pass where they are wanted, see :meth:`FusionMethod.showing`."""
    advice: str = ""
    """When to choose it, in one line for the user; the dock and ``focusfuse methods`` show it."""

    @property
    def exact(self) -> bool:
        """Whether a dead margin can cover the reach, so that the tile grid changes nothing."""
        return self.halo <= MAX_MARGIN

    @property
    def tiling(self) -> str:
        """``"exact"`` or ``"anchored only"``, as listings and provenance say it."""
        return "exact" if self.exact else "anchored only"


@dataclass(frozen=True)
class MapInfo:
    """A map: one value per pixel that comes with a fusion, such as how likely it is blurred."""

    name: str
    """What ``--map`` takes, such as ``"mask"``."""
    title: str
    """What the user reads, such as ``"Blur mask"``."""
    unit: str | None
    """Such as ``"um"``; None: a share from 0 to 1, which is kept as 0 to 255."""
    low: float
    """The value, in the unit, of a computed 0."""
    high: float
    """The value, in the unit, of a computed 1."""


MASK = MapInfo("mask", "Blur mask", unit=None, low=0.0, high=1.0)
"""P(blurred) of layer 0."""


INFERRED = MapInfo("inferred", "Inferred", unit=None, low=0.0, high=1.0)
"""Share of the local detail that no plane holds; see :mod:`napari_focusfuse.fusion.inference`."""
ERROR = MapInfo("error", "Error to expect", unit="grey levels", low=0.0, high=64.0)
"""How far a restored value may be off: 90 % lie closer where the model was calibrated, else about
half do."""


class FusionMethod(ABC):
    """Fuses stacks of focal planes; made by :func:`napari_focusfuse.fusion.load_method`."""

    info: MethodInfo
    device: str = "cpu"
    """The device it computes on, as torch names it."""
    maps: tuple[MapInfo, ...] = ()
    """What it says of each pixel beside its colour, in the order of its further channels."""

    def __call__(self, stacks: Float32Image) -> Float32Image:
        """Fuse a batch of tiles.

        Parameters
        ----------
        stacks
            (B, Z, Y, X, 3) float32 array in [0, 1]; Z in the order of ``info.plane_offsets``, or by
            increasing z; Y and X multiples of ``info.multiple_of``.

        Returns
        -------
        (B, Y, X, 3 + len(maps)) float32 array in [0, 1]: red, green, blue, then the maps, each
        scaled so that [0, 1] spans its [low, high]

        Raises
        ------
        ValueError
            If the array has another shape.
        FusionError
            If the result is not a number somewhere; such a tile must never be shown as black.
        """
        _check_stacks(stacks, self.info)
        return to_unit_range(self.compute(stacks), self.info.title)

    def at(self, sampling: Sampling) -> FusionMethod:
        """Return this method for planes and pixels that lie so; most do not care."""
        return self

    def showing(self, names: Collection[str]) -> FusionMethod:
        """Return this method making those of its offered maps that have one of the names."""
        return self

    @abstractmethod
    def compute(self, stacks: Float32Image) -> Float32Image:
        """Fuse as above, but neither check nor clip the result; the probe of the reach needs it."""


class PixelMapper(ABC):
    """Makes maps in the same pass as a fusion, but not the fused picture, such as the blur mask."""

    info: MethodInfo
    device: str = "cpu"
    """The device it computes on, as torch names it."""
    maps: tuple[MapInfo, ...]
    """What it says of each pixel, in the order of its channels."""
    takes: Literal["centre", "fused"] = "centre"
    """Whether it gets layer 0 alone, or the planes that are fused."""

    def __call__(self, stacks: Float32Image) -> Float32Image:
        """Compute the maps of a batch of tiles.

        Parameters
        ----------
        stacks
            (B, Z, Y, X, 3) float32 array in [0, 1]; Z is 1 if it takes the centre alone, else the
            planes being fused in their order; Y and X multiples of ``info.multiple_of``.

        Returns
        -------
        (B, Y, X, len(maps)) float32 array, each channel scaled so that [0, 1] spans its map's
        [low, high]

        Raises
        ------
        ValueError
            If the array has another shape.
        FusionError
            If the result is not a number somewhere.
        """
        _check_stacks(stacks, self.info)
        return to_unit_range(self.compute(stacks), self.info.title)

    @abstractmethod
    def compute(self, stacks: Float32Image) -> Float32Image:
        """Compute as above, but neither check nor clip the result; the reach's probe needs it."""


def _check_stacks(stacks: Float32Image, info: MethodInfo) -> None:
    offsets = info.plane_offsets
    planes_fit = offsets is None or stacks.shape[1] == len(offsets)
    sides_fit = all(side % info.multiple_of == 0 for side in stacks.shape[2:4])
    if stacks.ndim != 5 or stacks.shape[-1] != 3 or not (planes_fit and sides_fit):
        raise ValueError(f"{info.name} does not take stacks of shape {stacks.shape}")


def to_unit_range(values: Float32Image, title: str) -> Float32Image:
    """Return the values clipped to [0, 1].

    Raises
    ------
    FusionError
        If some value is not a number or is infinite.
    """
    if not np.isfinite(values).all():
        raise FusionError(
            f"{title} gave values that are not numbers; its weights are damaged or do not suit "
            "this image. Choose another method."
        )
    return np.clip(values, 0.0, 1.0, dtype=np.float32)
