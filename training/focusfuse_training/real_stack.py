"""A real stack without a truth: its middle planes are judged by the fusion of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import DataError
from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.pixels import halve, to_uint8
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import UInt8Image

REFERENCE = "evidence"
"""The method that fuses all planes."""
LEAST_PLANES = 5
SIDE_PX = 1024
"""Longest side of what is scored of it."""


@dataclass(frozen=True)
class RealStack:
    """The middle of a stack of registered focal planes."""

    path: Path
    """A slide, or a folder of one picture a plane, which is halved: a camera's or JPEG's colour is
    no finer, and JPEG's blocks are no detail."""
    side: int = SIDE_PX

    def planes(self) -> UInt8Image:
        """Return the middle square of an odd number of planes by increasing z, (Z, Y, X, 3).

        Raises
        ------
        SlideError, DataError
            If it cannot be read, or has too few planes.
        """
        with open_slide(self.path) as slide:
            if len(slide.planes) < LEAST_PLANES:
                raise DataError(
                    f"{self.path} has {len(slide.planes)} focus layers; the fusion of all is a "
                    f"reference for three of them if there are {LEAST_PLANES} or more."
                )
            reach = min(slide.zero, len(slide.planes) - 1 - slide.zero)
            chosen = slide.planes[slide.zero - reach : slide.zero + reach + 1]
            scale = 2 if self.path.is_dir() else 1
            height, width = slide.levels[0].shape
            rows, columns = (min(length, scale * self.side) for length in (height, width))
            box = (height - rows) // 2, (width - columns) // 2, rows, columns
            read = (slide.read_region(plane, 0, *box) for plane in chosen)
            return np.stack([halve(plane) if scale == 2 else plane for plane in read])

    def shape(self) -> tuple[int, int]:
        """Return (height, width) of what is judged."""
        with open_slide(self.path) as slide:
            scale = 2 if self.path.is_dir() else 1
            height, width = (min(length // scale, self.side) for length in slide.levels[0].shape)
            return height, width


def fusion_of(planes: UInt8Image) -> UInt8Image:
    """Return the (Y, X, 3) reference of (Z, Y, X, 3) planes."""
    stack = np.divide(planes[None], 255, dtype=np.float32)
    return to_uint8(load_method(REFERENCE, "cpu")(stack)[0])
