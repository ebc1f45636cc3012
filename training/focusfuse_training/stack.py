"""Stacks to learn from, one file each, of which a window is read without the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from napari_focusfuse.defocus import Float32Array
from napari_focusfuse.slide import FocusFuseError, UInt8Image

SUFFIX = ".stack.safetensors"
_NAMES = ("planes", "truth_one", "truth_three", "blurred", "blur_ratio", "sampling")
Float16Image = npt.NDArray[np.float16]


class StackError(FocusFuseError, OSError):
    """A cached stack cannot be read or written."""

    exit_code = 5


@dataclass(frozen=True)
class TrainingStack:
    """What the trainer sees of one stack, or of a window of it."""

    planes: UInt8Image
    """(Z, Y, X, 3) by increasing z, Z odd; layer 0 in the middle."""
    truth_one: UInt8Image
    """(Y, X, 3): what a model of one plane should return."""
    truth_three: UInt8Image
    """(Y, X, 3): what a model of several planes should return."""
    blurred: npt.NDArray[np.uint8]
    """(Y, X): 1 where layer 0 is out of focus, 0 where it is not, 255 where nobody knows."""
    blur_ratio: Float16Image | None = None
    """(Y, X): how far layer 0 is blurred, see :func:`napari_focusfuse.defocus.blur_ratio`; NaN, or
    None for the whole, where nobody knows."""
    sampling: Float32Array | None = None
    """(Z,): distance in um of each plane from the one before, then um per pixel; NaN or None where
    unknown."""

    def save(self, path: Path) -> None:
        """Write the stack, atomically, so that an interrupted run leaves no half file.

        Raises
        ------
        StackError
            If the disk refuses.
        """
        partial = path.with_name(f"{path.name}.partial")
        try:
            save_file(self._tensors(), partial)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise StackError(
                f"The cache {path.parent} cannot be written ({error}); free some space or choose "
                "another folder with --cache."
            ) from None

    def _tensors(self) -> dict[str, npt.NDArray[Any]]:
        found = {name: getattr(self, name) for name in _NAMES}
        if self.blur_ratio is None:
            found["blur_ratio"] = np.full(self.blurred.shape, np.nan, dtype=np.float16)
        if self.sampling is None:
            found["sampling"] = np.full(len(self.planes), np.nan, dtype=np.float32)
        return {name: np.ascontiguousarray(array) for name, array in found.items()}


class StackFile:
    """A stack on disk; only its shape is held in memory.

    Raises
    ------
    StackError
        If the file cannot be read, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            shapes = [tuple(file.get_slice(name).get_shape()) for name in _NAMES]
        planes, one, three, blurred, ratio, sampling = shapes
        fits = planes[1:] == one == three == (*blurred, 3) and ratio == blurred
        if len(blurred) != 2 or not fits or sampling != planes[:1]:
            raise StackError(f"{path} is no training stack; delete it, and it is made again.")
        self.shape: tuple[int, int] = blurred
        """(height, width)."""

    def read(self, y: int, x: int, size: int) -> TrainingStack:
        """Return the square window at ``(y, x)``; no more of the file is read than its rows."""
        rows, columns = slice(y, y + size), slice(x, x + size)
        with _opened(self.path) as file:
            return TrainingStack(
                planes=file.get_slice("planes")[:, rows, columns],
                truth_one=file.get_slice("truth_one")[rows, columns],
                truth_three=file.get_slice("truth_three")[rows, columns],
                blurred=file.get_slice("blurred")[rows, columns],
                blur_ratio=file.get_slice("blur_ratio")[rows, columns],
                sampling=file.get_tensor("sampling"),
            )

    def whole(self) -> TrainingStack:
        """Return all of it."""
        with _opened(self.path) as file:
            return TrainingStack(**{name: file.get_tensor(name) for name in _NAMES})


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise StackError(
            f"{path} cannot be read ({error}); delete it, and it is made again."
        ) from None
