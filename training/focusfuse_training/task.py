"""One stack on which everything is scored, and all that is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import (
    BORDER_PX,
    OPTICS,
    benchmark_stack,
    drawn_stack,
)
from napari_focusfuse.defocus import Float32Array, blur_labels
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import UInt8Image

from .masks import UNKNOWN, BoolImage
from .real_stack import RealStack, fusion_of
from .stack import StackFile, TrainingStack


@dataclass(frozen=True)
class Square:
    """A part of a picture that counts as one image of the tables."""

    y: int
    x: int
    side: int

    def cut(self, image: UInt8Image) -> UInt8Image:
        """Return its (side, side, 3) pixels of a (Y, X, 3) image."""
        return image[self.y : self.y + self.side, self.x : self.x + self.side]


@dataclass(frozen=True)
class Sample:
    """A stack with all that is known about it."""

    planes: UInt8Image
    """(Z, Y, X, 3) by increasing z, Z odd; layer 0 in the middle."""
    truth_one: UInt8Image
    """(Y, X, 3): what a method of one plane should return."""
    truth_three: UInt8Image
    """(Y, X, 3): what a method of several planes should return."""
    blurred: BoolImage
    """(Y, X): where layer 0 is out of focus."""
    known: BoolImage
    """(Y, X): where ``blurred`` says anything."""
    height_um: Float32Array | None = None
    """(Y, X) height above layer 0, of simulated stacks."""
    heights_um: tuple[float | None, ...] = ()
    """Of each plane; empty where nobody knows."""
    mpp: float | None = None
    """Micrometres per pixel, or None."""

    def sampling(self, count: int) -> Sampling:
        """Return how the middle ``count`` planes lie."""
        heights = self.heights_um or (None,) * len(self.planes)
        first = (len(heights) - count) // 2
        return Sampling.of(heights[first : first + count], self.mpp)

    @property
    def layer0(self) -> UInt8Image:
        """The (Y, X, 3) plane in the middle."""
        layer: UInt8Image = self.planes[len(self.planes) // 2]
        return layer

    def central(self, count: int) -> UInt8Image:
        """Return the ``count`` planes around layer 0."""
        first = len(self.planes) // 2 - count // 2
        return self.planes[first : first + count]

    def truth(self, planes: int) -> UInt8Image:
        """Return the truth for a method that was given so many planes."""
        return self.truth_one if planes == 1 else self.truth_three


@dataclass(frozen=True)
class Task:
    """One stack to render or read, and what to score of it."""

    source: UInt8Image | Path | RealStack | None
    """A (Y, X, 3) sharp field to image, a stack's file, a real stack, or None: a drawn smear."""
    depth_um: float = 0.0
    seed: int = 0
    squares: tuple[Square, ...] = ()
    shown: tuple[int, ...] = ()
    """Which of the squares go into the sheet of pictures."""
    calibrates: bool = False
    """Whether it only shows how far expected errors are off, and nothing is scored."""

    @property
    def border(self) -> int:
        """Pixels at each side that no score of the whole stack counts."""
        return 0 if isinstance(self.source, Path) else BORDER_PX

    def render(self) -> Sample:
        """Return the stack."""
        if isinstance(self.source, Path):
            return _of_file(StackFile(self.source).whole())
        if isinstance(self.source, RealStack):
            return _of_real(self.source)
        if self.source is None:
            stack = drawn_stack(self.depth_um, self.seed)
        else:
            stack = benchmark_stack(self.source, self.depth_um, self.seed)
        blurred = blur_labels(OPTICS, stack.height_um, 0.0)
        known = np.ones_like(blurred)
        return Sample(
            stack.planes,
            stack.truth_one,
            stack.truth_all,
            blurred,
            known,
            stack.height_um,
            heights_um=stack.focus_um,
            mpp=OPTICS.mpp,
        )


def _of_real(stack: RealStack) -> Sample:
    planes = stack.planes()
    truth = fusion_of(planes)
    nowhere = np.zeros(truth.shape[:2], dtype=np.bool_)
    return Sample(planes, truth, truth, blurred=nowhere, known=nowhere)


def _of_file(stack: TrainingStack) -> Sample:
    return Sample(
        stack.planes,
        stack.truth_one,
        stack.truth_three,
        blurred=stack.blurred == 1,
        known=stack.blurred != UNKNOWN,
        heights_um=_heights(stack),
        mpp=None if stack.sampling is None else _known(stack.sampling[-1]),
    )


def _heights(stack: TrainingStack) -> tuple[float | None, ...]:
    """Return heights above the lowest plane, or nothing if some gap is unknown."""
    if stack.sampling is None or np.isnan(stack.sampling[:-1]).any():
        return ()
    return tuple(np.concatenate([[0.0], np.cumsum(stack.sampling[:-1])]).tolist())


def _known(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)


def mirrored(planes: UInt8Image, multiple_of: int) -> UInt8Image:
    """Return (Z, Y, X, 3) planes continued below and to the right to a multiple of a size."""
    short = [-side % multiple_of for side in planes.shape[1:3]]
    return np.pad(planes, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)), mode="reflect")
