"""A picture against its reference: the part both show, at one scale, and how alike they are there.

Everything here is per axis: of two pictures the finer is averaged onto the pixel grid of the
coarser, so that no detail is invented, and a shift is a whole number of those pixels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.metrics import VARIANTS, score
from napari_focusfuse.registration import (
    MIN_PEAK,
    ComparisonError,
    Registration,
    area_mean,
    overlap,
    register,
)
from napari_focusfuse.slide import FocusFuseError, UInt8Image

__all__ = [
    "MIN_COMMON",
    "MIN_PEAK",
    "Comparison",
    "ComparisonError",
    "ComparisonOutputError",
    "Picture",
    "Registration",
    "compare",
    "crop_to_common",
    "register",
    "told_output",
]

MIN_COMMON = 16
"""Fewest pixels on a side of the common part that are worth a score."""


class ComparisonOutputError(FocusFuseError, OSError):
    """The scores cannot be written."""

    exit_code = 5


@contextmanager
def told_output(path: str | Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ComparisonOutputError(
            f"The scores cannot be written to {path} ({reason}); choose another folder."
        ) from None


@dataclass(frozen=True)
class Picture:
    """Pixels, and where they lie if that is known."""

    pixels: UInt8Image
    """(Y, X, 3) uint8."""
    name: str = ""
    """What the user calls it."""
    mpp: tuple[float, float] | None = None
    """(y, x) micrometres per pixel; for two pictures of one slide of unknown scale, pixels of its
    level 0 per pixel; None if unknown."""
    origin: tuple[float, float] | None = None
    """(y, x) of the outer corner of the first pixel, in the unit of ``mpp``; None if unknown."""
    level: int | None = None
    """The pyramid level it was read from, if any."""

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ComparisonError(
                f"{self.name or 'A picture'} holds {pixels.dtype} values of shape {pixels.shape}; "
                "only 8-bit RGB can be compared."
            )
        numbers = (*(self.mpp or ()), *(self.origin or ()))
        if not all(map(math.isfinite, numbers)) or min(self.mpp or (1.0,)) <= 0:
            raise ComparisonError(
                f"{self.name or 'A picture'} says its pixels measure {self.mpp} um and begin at "
                f"{self.origin}; give positive sizes and finite positions."
            )


@dataclass(frozen=True)
class Comparison:
    """How alike two pictures are where both show something."""

    image: str
    reference: str
    scores: Mapping[str, float]
    """One figure for each of :data:`napari_focusfuse.metrics.VARIANTS`."""
    shape: tuple[int, int]
    """(y, x) pixels that were compared."""
    shift: tuple[int, int]
    """(y, x) pixels from the image's first pixel to the reference's, on the compared grid."""
    peak: float | None
    """Peak of the registration, or None if positions or a shift by hand were used."""
    mpp: tuple[float, float] | None
    """(y, x) size of a compared pixel, in the image's unit; None if unknown."""
    level: int | None
    """Pyramid level of the coarser picture, if it has one: the level that was compared."""
    origin: tuple[float, float]
    """(y, x) of the outer corner of the first compared pixel, in ``mpp`` units if both are known,
    else in compared pixels from the image's corner."""
    difference: npt.NDArray[np.int16] = field(repr=False)
    """(Y, X, 3) int16: image minus reference."""
    variants: Mapping[str, str] = field(default_factory=lambda: VARIANTS, repr=False)
    """What each score stands for."""

    @property
    def pixels(self) -> int:
        """Number of pixels that were compared."""
        return self.shape[0] * self.shape[1]

    def to_csv(self, path: str | Path) -> None:
        """Write one line of column names and one of figures; a file of that name is replaced.

        Raises
        ------
        ComparisonOutputError
            If the file cannot be written.
        """
        row: dict[str, Any] = {"image": self.image, "reference": self.reference, **self.scores}
        mpp = self.mpp or ("", "")
        row |= {"pixels": self.pixels, "height": self.shape[0], "width": self.shape[1]}
        row |= {"level": "" if self.level is None else self.level, "mpp y": mpp[0], "mpp x": mpp[1]}
        row |= {"shift y": self.shift[0], "shift x": self.shift[1]}
        row["peak"] = "" if self.peak is None else self.peak
        with told_output(path), Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)


def compare(
    image: Picture, reference: Picture, *, shift: tuple[int, int] | None = None
) -> Comparison:
    """Score a picture against a reference where both show something.

    Parameters
    ----------
    image, reference
        If both know ``mpp``, the finer is averaged onto the pixels of the coarser, else they are
        taken at the same scale.  If both know ``mpp`` and ``origin``, they are placed by them,
        else by phase correlation.
    shift
        (y, x) from the image's first pixel to the reference's, in pixels of the coarser; it
        replaces positions and correlation.

    Returns
    -------
    Comparison

    Raises
    ------
    ComparisonError
        If the place of the reference cannot be found with a peak of :data:`MIN_PEAK`, or less than
        :data:`MIN_COMMON` pixels are common.
    """
    positioned = shift is None and _positioned(image) and _positioned(reference)
    first, second = _on_one_grid(*_placed(image, reference, positioned))
    peak = None
    if positioned:
        shift = _shift_by_position(first, second)
    elif shift is None:
        found = register(first.pixels, second.pixels)
        if found.peak < MIN_PEAK:
            raise ComparisonError(
                f"{reference.name or 'The reference'} was not found in "
                f"{image.name or 'the image'}: the correlation peak is {found.peak:.0f} and "
                f"{MIN_PEAK:.0f} is needed; give the shift by hand, or the scale of both."
            )
        shift, peak = found.shift, found.peak
    first, second = _common(first, second, shift)
    return Comparison(
        image=image.name,
        reference=reference.name,
        scores=score(first.pixels, second.pixels),
        shape=(first.pixels.shape[0], first.pixels.shape[1]),
        shift=shift,
        peak=peak,
        mpp=None if image.mpp is None else first.mpp,
        level=_level(image, reference),
        origin=first.origin,
        difference=first.pixels.astype(np.int16) - second.pixels,
    )


def crop_to_common(image: Picture, reference: Picture) -> tuple[Picture, Picture]:
    """Return what two positioned pictures both show, on the pixel grid of the coarser.

    Raises
    ------
    ComparisonError
        If a position or scale is unknown, or less than :data:`MIN_COMMON` pixels are common.
    """
    for picture in (image, reference):
        if not _positioned(picture):
            raise ComparisonError(
                f"{picture.name or 'A picture'} does not say where it lies; register it instead."
            )
    first, second = _on_one_grid(*_placed(image, reference, positioned=True))
    first, second = _common(first, second, _shift_by_position(first, second))
    level = _level(image, reference)
    return (
        Picture(first.pixels, image.name, first.mpp, first.origin, level),
        Picture(second.pixels, reference.name, second.mpp, second.origin, level),
    )


@dataclass(frozen=True)
class _Placed:
    """A picture whose scale and position are known, or taken for granted."""

    pixels: UInt8Image
    mpp: tuple[float, float]
    origin: tuple[float, float]


def _positioned(picture: Picture) -> bool:
    return picture.mpp is not None and picture.origin is not None


def _placed(image: Picture, reference: Picture, positioned: bool) -> tuple[_Placed, _Placed]:
    """Return both with scale and position: unknown scales are equal, unknown corners coincide."""
    mpp, origin = image.mpp or (1.0, 1.0), image.origin or (0.0, 0.0)
    known = image.mpp is not None and reference.mpp is not None
    return _Placed(image.pixels, mpp, origin), _Placed(
        reference.pixels,
        (reference.mpp if known else None) or mpp,
        (reference.origin if positioned else None) or origin,
    )


def _level(image: Picture, reference: Picture) -> int | None:
    """Return the level of the coarser picture; of the image if they are equal."""
    if image.level is None or reference.level is None:
        return reference.level if image.level is None else image.level
    if image.mpp is None or reference.mpp is None:
        return image.level
    return image.level if math.prod(image.mpp) >= math.prod(reference.mpp) else reference.level


def _on_one_grid(image: _Placed, reference: _Placed) -> tuple[_Placed, _Placed]:
    """Average the finer picture onto the coarser one's pixels, axis by axis."""
    pair = image, reference
    starts, sizes = ([0.0, 0.0], [0.0, 0.0]), ([1.0, 1.0], [1.0, 1.0])
    for axis in (0, 1):
        finer = int(reference.mpp[axis] < image.mpp[axis])
        fine, coarse = pair[finer], pair[1 - finer]
        longest = max(picture.pixels.shape[axis] for picture in pair)
        ratio = coarse.mpp[axis] / fine.mpp[axis]
        if (ratio - 1) * longest < 0.5:
            continue  # they drift apart by less than half a pixel: averaging would only blur
        # Where the finer begins on the coarser's grid; its first whole cell begins after that.
        begin = (fine.origin[axis] - coarse.origin[axis]) / coarse.mpp[axis]
        starts[finer][axis] = (math.ceil(begin - 1e-6) - begin) * ratio
        sizes[finer][axis] = ratio
    first, second = (_averaged(*args) for args in zip(pair, starts, sizes, strict=True))
    return first, second


def _averaged(picture: _Placed, start: Sequence[float], size: Sequence[float]) -> _Placed:
    """Return a picture averaged over cells of ``size`` of its pixels that begin at ``start``."""
    mpp, origin = picture.mpp, picture.origin
    return _Placed(
        area_mean(picture.pixels, start, size),
        (mpp[0] * size[0], mpp[1] * size[1]),
        (origin[0] + start[0] * mpp[0], origin[1] + start[1] * mpp[1]),
    )


def _shift_by_position(image: _Placed, reference: _Placed) -> tuple[int, int]:
    """Return the nearest whole-pixel shift between two pictures on one grid."""
    y, x = (
        round((reference.origin[axis] - image.origin[axis]) / image.mpp[axis]) for axis in (0, 1)
    )
    return y, x


def _common(image: _Placed, reference: _Placed, shift: tuple[int, int]) -> tuple[_Placed, _Placed]:
    """Return what two pictures on one grid both show; the image's position is believed."""
    first, second = overlap(image.pixels, reference.pixels, shift)
    if min(first.shape[:2]) < MIN_COMMON:
        raise ComparisonError(
            f"The image and the reference have {first.shape[1]} x {first.shape[0]} pixels in "
            f"common and at least {MIN_COMMON} on each side are needed; check that both show the "
            "same place."
        )
    corner = (
        image.origin[0] + max(shift[0], 0) * image.mpp[0],
        image.origin[1] + max(shift[1], 0) * image.mpp[1],
    )
    return _Placed(first, image.mpp, corner), _Placed(second, image.mpp, corner)
