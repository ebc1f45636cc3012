"""Run a method in as much memory as there is, without changing its result."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from napari_focusfuse.tiles import TileGrid

from .method import Float32Image, FusionError

SMALLEST_CORE = 32
"""Side in pixels below which a window is nearly all margin, so that shrinking it gains nothing."""

MOST_AT_ONCE = 24 << 20
"""Pixels, of all planes together, above which a tile is computed in smaller windows: methods need
some 50 bytes for each, and a run is to stay below 2 GB however many planes there are."""

_PHRASES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class OutOfMemoryError(FusionError, MemoryError):
    """A tile does not fit into memory; the text asks what may change."""


class TileComputer:
    """Calls a method or detector on batches of tiles, in smaller pieces once memory runs out.

    A smaller batch never changes a result.  A tile is cut into smaller windows only if the reach is
    covered, because then the cut cannot be seen.  What was found to fit is kept for later tiles.
    """

    def __init__(
        self,
        function: Callable[[Float32Image], Float32Image],
        grid: TileGrid,
        *,
        title: str,
        device: str,
        halo: int,
    ) -> None:
        self._function = function
        self._title = title
        self._device = device
        self._tile = grid.tile
        self._alignment = grid.alignment
        self._margin = -(-halo // grid.alignment) * grid.alignment
        self._exact = halo <= grid.margin
        self._batch = sys.maxsize
        self._window = grid.tile

    def __call__(self, stacks: Float32Image) -> Float32Image:
        """Compute (B, Z, Y, X, 3) tiles; what lies within the margin of a tile's edge is undefined.

        Raises
        ------
        OutOfMemoryError
            If even the smallest piece that leaves the result alone does not fit.
        """
        while stacks.shape[1] * self._window**2 > MOST_AT_ONCE:
            smaller = self._smaller_window()
            if smaller is None:
                break
            self._window = smaller
        while True:
            try:
                return self._in_batches(stacks)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Only here, outside the except block, has the failed call let go of its tensors.
            free_memory()
            self._shrink(len(stacks))

    def _shrink(self, count: int) -> None:
        batch = min(self._batch, count)
        smaller = self._smaller_window()
        if batch > 1:
            self._batch = batch // 2
        elif smaller is not None:
            self._window = smaller
        else:
            raise OutOfMemoryError(self._question())

    def _smaller_window(self) -> int | None:
        """Return the next smaller window whose cut cannot be seen, or None if there is none."""
        core = self._window - 2 * self._margin
        smaller = -(-core // (2 * self._alignment)) * self._alignment
        if self._exact and SMALLEST_CORE <= smaller < core:
            return smaller + 2 * self._margin
        return None

    def _question(self) -> str:
        where = f"{self._title} needs more memory than the {self._device} device has"
        other = "use another method" if self._device == "cpu" else "use the device cpu (slower)"
        if self._exact:
            return f"{where}, even for {self._window} px tiles: free some memory, or {other}?"
        return (
            f"{where} for {self._tile} px tiles, and smaller ones would change its result near "
            f"their borders, because it looks further than their margin: fuse with smaller tiles "
            f"all the same, or {other}?"
        )

    def _in_batches(self, stacks: Float32Image) -> Float32Image:
        step = min(self._batch, len(stacks))
        parts = [self._in_windows(stacks[i : i + step]) for i in range(0, len(stacks), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _in_windows(self, stacks: Float32Image) -> Float32Image:
        if self._window == self._tile:
            return self._function(stacks)
        window, margin = self._window, self._margin
        last = self._tile - window
        starts = sorted({*range(0, last, window - 2 * margin), last})
        out: Float32Image | None = None
        for y in starts:
            for x in starts:
                part = self._function(stacks[:, :, y : y + window, x : x + window])
                if out is None:
                    shape = (len(part), self._tile, self._tile, *part.shape[3:])
                    out = np.zeros(shape, np.float32)
                core = slice(margin, window - margin)
                rows = slice(y + margin, y + window - margin)
                columns = slice(x + margin, x + window - margin)
                out[:, rows, columns] = part[:, core, core]
        assert out is not None  # there is always a window
        return out


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out; torch says so in several ways."""
    if isinstance(error, OutOfMemoryError):
        return False
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(phrase in text for phrase in _PHRASES)


def free_memory() -> None:
    """Return torch's cached blocks to the device, if torch is in use at all."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
