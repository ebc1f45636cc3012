"""How far a method really looks: a measurement to hold its declared halo against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .method import Float32Image, MethodInfo


def measure_reach(
    compute: Callable[[Float32Image], Float32Image],
    info: MethodInfo,
    planes: int | None = None,
    seed: int = 0,
) -> int:
    """Return how far from a changed pixel the output changes, in pixels (the larger of y and x).

    One pixel of one plane is replaced, by NaN and by its opposite, and the output is compared bit
    for bit with the undisturbed one.  NaN spreads as far as a network's convolutions look, however
    small their weights.  A decision between planes swallows NaN, but shows that it looked by coming
    out differently; so that the least disturbance tips it, neighbouring planes hold one texture and
    its negative, whose focus measures tie everywhere.  Pooling makes the reach depend on where the
    pixel lies in its block: every row and column of a block is probed, along its diagonal.

    Parameters
    ----------
    compute
        ``method.compute``: its result before it is checked and clipped.
    info
        Its declaration.  The probed tile is a little larger than the declared reach on each side,
        so of a method that looks further only that much can be seen.
    planes
        How many planes to give it; None: as many as it takes, or three.
    """
    count = planes or len(info.plane_offsets or (-1, 0, 1))
    block = max(info.multiple_of, 2)
    middle = -(-(info.halo + block) // block) * block
    size = 2 * middle + block
    stack = _tied_planes(count, size, seed)
    clean = compute(stack[None])
    reach = 0
    for plane in range(count):
        for at in range(middle, middle + block):
            for value in (np.float32(np.nan), 1.0 - stack[plane, at, at]):
                disturbed = stack.copy()
                disturbed[plane, at, at] = value
                reach = max(reach, _furthest(clean[0], compute(disturbed[None])[0], at))
    return reach


def _tied_planes(count: int, size: int, seed: int) -> Float32Image:
    """Return (count, size, size, 3) planes: a grey texture and its negative in turn.

    Values are multiples of 1/16, so that both are exact in every precision and tie to the bit.
    """
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 17, (size, size, 1)).astype(np.float32) / 16
    planes = [texture if index % 2 == 0 else 1 - texture for index in range(count)]
    return np.repeat(np.stack(planes), 3, axis=-1)


def _furthest(clean: Float32Image, disturbed: Float32Image, at: int) -> int:
    """Return the distance from the pixel (at, at) to the furthest one that differs."""
    same: npt.NDArray[np.bool_] = (clean == disturbed) | (np.isnan(clean) & np.isnan(disturbed))
    rows, columns = np.nonzero(~same.reshape(*clean.shape[:2], -1).all(axis=-1))
    if not len(rows):
        return 0
    return int(max(np.abs(rows - at).max(), np.abs(columns - at).max()))
