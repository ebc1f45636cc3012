"""What a multilayer slide is: focal planes times pyramid levels, of which regions are read.

Conventions of the whole package: positions and sizes are ``(y, x)`` in pixels of the level they are
given for, physical lengths are in micrometres and end in ``_um``, ``mpp`` is micrometres per pixel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import numpy as np
import numpy.typing as npt

UInt8Image = npt.NDArray[np.uint8]

MAX_SIDE = 1 << 19
"""Longest side of a slide in pixels; a file that claims more is damaged or hostile.

The largest slide known has 1560 images of some 256 pixels on a side."""

MAX_REGION_PIXELS = 1 << 28
"""Most pixels one read may ask for, so that a wrong request cannot take the machine's memory."""


class FocusFuseError(Exception):
    """Root of every error a user can cause; its text is one sentence that says what to do."""

    exit_code: ClassVar[int] = 4


class SlideError(FocusFuseError, OSError):
    """A slide cannot be opened or read."""


class UnsupportedSlideError(SlideError):
    """No reader supports the file."""


class PlaneError(FocusFuseError, ValueError):
    """The slide does not hold the focal planes that were asked for."""


class RegionError(FocusFuseError, ValueError):
    """A region lies outside the slide, or is too large to be read at once."""


@dataclass(frozen=True)
class FocalPlane:
    """One focal plane of a slide."""

    index: int
    """Position in :attr:`Slide.planes`, 0 at the lowest z; -1 for the extended-focus plane."""
    name: str
    """The vendor's name, for the user."""
    z_um: float | None = None
    """Height in micrometres, increasing with ``index``; None where the file does not say."""


@dataclass(frozen=True)
class Level:
    """One level of a slide's pyramid; level 0 is the full size."""

    width: int
    height: int
    downsample: tuple[float, float] = (1.0, 1.0)
    """(y, x) pixels of level 0 for one pixel of this level."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @classmethod
    def under(cls, full: tuple[int, int], shape: tuple[int, int]) -> Level:
        """Return the level of ``shape`` (height, width) under a level 0 of ``full``.

        A ratio that is whole but for the rounding of the level's size counts as whole: 1001 pixels
        stored as 500 or 501 are a downsample of 2, not of 2.002 or 1.998.  A power of two goes
        before another whole number: 255 pixels stored as 15 are one sixteenth, not one seventeenth.
        """
        ratios = tuple(_downsample(*pair) for pair in zip(full, shape, strict=True))
        return cls(width=shape[1], height=shape[0], downsample=(ratios[0], ratios[1]))


def _downsample(full: int, size: int) -> float:
    ratio = full / max(1, size)
    for whole in (2 ** round(math.log2(max(1.0, ratio))), max(1, round(ratio))):
        if size in (full // whole, -(-full // whole)):
            return float(whole)
    return ratio


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of one level."""

    y: int
    x: int
    height: int
    width: int

    @property
    def stop_y(self) -> int:
        """First row below the region."""
        return self.y + self.height

    @property
    def stop_x(self) -> int:
        """First column right of the region."""
        return self.x + self.width

    def clipped(self, height: int, width: int) -> Region:
        """Return the part inside an image of ``height`` x ``width`` pixels; its sides may be 0."""
        y, x = min(max(self.y, 0), height), min(max(self.x, 0), width)
        stop_y, stop_x = min(max(self.stop_y, y), height), min(max(self.stop_x, x), width)
        return Region(y, x, stop_y - y, stop_x - x)


class Slide(ABC):
    """An open slide.  Close it, or use it as a context manager.

    Readers set the attributes in their constructor and implement :meth:`_read`.  Reads are safe
    from several threads at once.
    """

    format: str = ""
    """Name of the reader, such as ``"tiff"``."""

    def __init__(
        self,
        path: str | Path,
        *,
        planes: Sequence[FocalPlane],
        levels: Sequence[Level],
        zero: int | None = None,
        extended: FocalPlane | None = None,
        mpp: tuple[float, float] | None = None,
        objective: float | None = None,
        background: tuple[int, int, int] = (255, 255, 255),
        properties: Mapping[str, str] | None = None,
        warnings: Sequence[str] = (),
        not_shown: Sequence[str] = (),
        icc_profile: bytes | None = None,
    ) -> None:
        self.path = Path(path)
        self.planes = tuple(planes)
        """Focal planes with z increasing; never the extended focus."""
        self.levels = tuple(levels)
        self.extended = extended
        """The plane the vendor fused from the others, or None."""
        self.mpp = mpp
        """(y, x) micrometres per pixel of level 0, or None where the file does not say."""
        self.objective = objective
        """Magnification of the objective, or None."""
        self.background = background
        """(red, green, blue) of what was not scanned."""
        self.properties = dict(properties or {})
        self.warnings = list(warnings)
        """Sentences about what is odd in the file."""
        self.not_shown = list(not_shown)
        """What the file holds and we do not show, such as further scenes."""
        self.icc_profile = icc_profile
        """Colour profile of the pixels, or None; it is passed on, never applied."""
        if not self.planes:
            raise SlideError(f"{self.path} holds no focal plane; check that the file is complete.")
        if not self.levels:
            raise SlideError(f"{self.path} holds no image; check that the file is complete.")
        for level in self.levels:
            if not (0 < level.width <= MAX_SIDE and 0 < level.height <= MAX_SIDE):
                raise SlideError(
                    f"{self.path} says it is {level.width} x {level.height} pixels; sides of 1 to "
                    f"{MAX_SIDE} pixels can be read. The file is damaged: export it again."
                )
        self.zero = self._zero_by_z() if zero is None else zero
        """Index into :attr:`planes` of layer 0."""
        if not 0 <= self.zero < len(self.planes):
            raise PlaneError(
                f"{self.path.name} has {len(self.planes)} focus layers, so the one that counts as "
                f"layer 0 must be 0 to {len(self.planes) - 1}, not {self.zero}."
            )

    def _zero_by_z(self) -> int:
        """Return the plane of smallest |z|, or the middle one if z is unknown or starts at 0."""
        heights = [plane.z_um for plane in self.planes]
        known = [z for z in heights if z is not None]
        if len(known) < len(heights) or min(known) >= 0:
            return len(heights) // 2
        return min(range(len(known)), key=lambda index: abs(known[index]))

    @property
    def z_step_um(self) -> float | None:
        """Distance between neighbouring planes, or None if unknown or unequal by more than 1 %."""
        heights = [plane.z_um for plane in self.planes]
        if len(heights) < 2 or any(z is None for z in heights):
            return None
        steps = np.diff(np.array(heights, dtype=np.float64))
        mean = float(steps.mean())
        return mean if bool(np.all(np.abs(steps - mean) <= 0.01 * abs(mean))) else None

    @property
    def bounds(self) -> Region:
        """The scanned part of level 0; the whole level unless the reader knows better."""
        return Region(0, 0, self.levels[0].height, self.levels[0].width)

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail, as the file has them; (Y, X, 3) uint8, read on access."""
        return {}

    def offset(self, plane: FocalPlane) -> int:
        """Return how many planes ``plane`` lies above layer 0; negative below."""
        return plane.index - self.zero

    def plane_at(self, offset: int) -> FocalPlane:
        """Return the plane ``offset`` planes above layer 0.

        Raises
        ------
        PlaneError
            If the stack does not reach that far.
        """
        index = self.zero + offset
        if not 0 <= index < len(self.planes):
            first, last = -self.zero, len(self.planes) - 1 - self.zero
            raise PlaneError(
                f"{self.path.name} has no focus layer {offset:+d}; it has layers {first:+d} to "
                f"{last:+d}. Choose others, or one layer."
            )
        return self.planes[index]

    @property
    def registration(self) -> Sequence[Mapping[str, object]]:
        """How each plane is moved as it is read, as plain JSON; empty where they are as stored."""
        return ()

    def stored(self, plane: FocalPlane, level: int) -> bool:
        """Tell whether the file itself holds this plane at this level."""
        return True

    def structure(self) -> Mapping[str, object]:
        """Return how the file is built, to be pasted into a report: no names of people, no pixels.

        Values are texts, numbers, or lists and mappings of them; empty if there is nothing to say.
        """
        return {}

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return the (height, width) in which reading ``level`` is cheapest."""
        return 512, 512

    def read_region(
        self, plane: FocalPlane, level: int, y: int, x: int, height: int, width: int
    ) -> UInt8Image:
        """Read a rectangle of one plane.

        Parameters
        ----------
        plane
            One of :attr:`planes`, or :attr:`extended`.
        level, y, x, height, width
            Rectangle in pixels of ``level``.  What lies outside the level is background.

        Returns
        -------
        (height, width, 3) uint8 array, RGB

        Raises
        ------
        PlaneError, RegionError
            If the plane is not of this slide, or the level or size is impossible.
        SlideError
            If the file is damaged there.
        """
        self._check_plane(plane)
        shape = self._check_request(level, height, width)
        inside = Region(y, x, height, width).clipped(*shape)
        if (inside.height, inside.width) == (height, width):
            return self._read(plane, level, inside)
        out = np.empty((height, width, 3), dtype=np.uint8)
        out[:] = self.background
        if inside.height and inside.width:
            rows = slice(inside.y - y, inside.stop_y - y)
            columns = slice(inside.x - x, inside.stop_x - x)
            out[rows, columns] = self._read(plane, level, inside)
        return out

    def read_stack(
        self, planes: Sequence[FocalPlane], level: int, y: int, x: int, height: int, width: int
    ) -> UInt8Image:
        """Read the same rectangle of several planes; see :meth:`read_region`.

        Returns
        -------
        (len(planes), height, width, 3) uint8 array
        """
        return np.stack([self.read_region(p, level, y, x, height, width) for p in planes])

    @abstractmethod
    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        """Read a non-empty rectangle that lies inside the level."""

    def close(self) -> None:  # noqa: B027 - an array has nothing to release
        """Release the file; the slide cannot be read afterwards."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_plane(self, plane: FocalPlane) -> None:
        of_this_slide = plane == self.extended or (
            0 <= plane.index < len(self.planes) and self.planes[plane.index] == plane
        )
        if not of_this_slide:
            raise PlaneError(f"{plane} is not a focus layer of {self.path.name}.")

    def _check_request(self, level: int, height: int, width: int) -> tuple[int, int]:
        if not 0 <= level < len(self.levels):
            raise RegionError(
                f"{self.path.name} has levels 0 to {len(self.levels) - 1}, not {level}."
            )
        if height <= 0 or width <= 0 or height * width > MAX_REGION_PIXELS:
            raise RegionError(
                f"A region of {width} x {height} pixels cannot be read at once; ask for 1 pixel to "
                f"{MAX_REGION_PIXELS >> 20} megapixels."
            )
        return self.levels[level].shape
