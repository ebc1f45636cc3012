"""The re-blur check: an honest restoration, defocused again, is the layer it was made from.

No picture without a truth can be proved right, but some can be proved wrong: what was invented or
erased beyond the blur of the layer stays visible when the result is blurred again.  Detail finer
than the blur does not: of that the layer says nothing, and neither does this check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .metrics import luma
from .slide import UInt8Image

Float32Array = npt.NDArray[np.float32]

TILE_PX = 64
"""Side of the squares that are flagged or not."""
MOST_RESIDUAL = 1.2
"""Unexplained residual over the layer's noise above which a tile is flagged."""
MISFIT = 0.7
"""Share of what was changed that the blurs may fail to undo before it counts as unexplained.

Nobody knows the optics, and cells of several heights overlap: of a simulated smear's perfect
restoration they leave up to 0.7, of a nucleus that is not there 0.8 to 1, of a dark grain of 5 px
radius so much only where the layer is nearly in focus.
"""
_FIT_PX = 8
"""Side of the squares that have one defocus each: cells at several heights meet within a tile."""
_SWAY = 6.0
"""Noises above which a difference has no further say in the choice of the defocus.

Else what was invented would choose the blur under which it nearly vanishes.
"""
_SIGMAS_PX = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
_RADII_PX = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0)
"""Blurs that are tried: Gaussians, and the discs of geometrical optics."""
_PADDING_PX = 32
_NOISE_PX = 8
_ROUNDING = 1e-3
"""Grey levels: what arithmetic leaves where there is no noise."""


@dataclass(frozen=True)
class Reblur:
    """How a restoration, blurred again, differs from the layer it was made from."""

    residual: Float32Array
    """(Y / 64, X / 64), rounded up: RMS difference of each tile in grey levels."""
    change: Float32Array
    """The same without blurring again: how far the restoration went from its layer."""
    noise: float
    """Standard deviation of the layer's noise in grey levels."""

    @property
    def ratio(self) -> Float32Array:
        """What no blur explains of each tile's residual, over the layer's noise."""
        unexplained = self.residual**2 - (MISFIT * self.change) ** 2
        ratio = np.sqrt(np.maximum(unexplained, 0.0)) / self.noise
        return np.asarray(ratio, dtype=np.float32)

    @property
    def flagged(self) -> npt.NDArray[np.bool_]:
        """Tiles whose detail the layer contradicts."""
        return self.ratio > MOST_RESIDUAL


def reblur_residual(layer: UInt8Image, output: UInt8Image) -> Reblur:
    """Blur a restoration again as fits best, square by square, and compare it with its layer.

    Parameters
    ----------
    layer
        (Y, X, 3) uint8: the focal plane that was restored, or layer 0 of several that were fused.
    output
        (Y, X, 3) uint8 result of the same shape.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if layer.shape != output.shape:
        raise ValueError(f"a layer of {layer.shape} cannot be compared with {output.shape}")
    before, after = luma(layer), luma(output)
    noise = noise_level(layer)
    # The first is no blur at all: what is in focus was not to be changed.
    errors = np.stack(
        [_block_means((image - before) ** 2, _FIT_PX) for image in (after, *_blurs(after))]
    )
    swaying = np.minimum(errors, (_SWAY * noise) ** 2)
    chosen = np.stack([_with_neighbours(error) for error in swaying]).argmin(axis=0)
    least = np.take_along_axis(errors, chosen[None], axis=0)[0]
    residual, change = (
        np.sqrt(_block_means(error, TILE_PX // _FIT_PX)) for error in (least, errors[0])
    )
    return Reblur(residual, change, noise)


def noise_level(layer: UInt8Image) -> float:
    """Return the standard deviation of an image's noise, grey, in grey levels.

    Of what is left of each square when a plane is fitted, the tenth percentile: detail raises it in
    some squares, never in all (after Liu, Freeman, Szeliski & Kang 2006, CVPR).  Never less than
    rounding to 8 bits leaves.

    Parameters
    ----------
    layer
        (Y, X, 3) uint8
    """
    grey = luma(layer)
    side = min(_NOISE_PX, *grey.shape)
    rows, columns = (size // side for size in grey.shape)
    blocks = grey[: rows * side, : columns * side].reshape(rows, side, columns, side)
    values = blocks.swapaxes(1, 2).reshape(-1, side * side).astype(np.float64)
    y, x = np.indices((side, side)).reshape(2, -1) - (side - 1) / 2
    basis, _ = np.linalg.qr(np.stack([np.ones(side * side), y, x], axis=1))
    left = values - (values @ basis) @ basis.T
    freedom = side * side - basis.shape[1]
    deviations = np.sqrt((left**2).sum(axis=1) / max(1, freedom))
    # Saturated squares have no noise and would hide that of the rest.
    alive = deviations[deviations > _ROUNDING]
    found = float(np.quantile(alive, 0.1)) if alive.size else 0.0
    # The tenth percentile of a deviation of so many values, by the normal approximation.
    found /= 1 - 1.28 / np.sqrt(2 * max(1, freedom))
    return float(max(found, math.sqrt(1 / 12)))


def _blurs(image: Float32Array) -> Iterator[Float32Array]:
    """Yield a (Y, X) image under every blur that is tried."""
    height, width = image.shape
    padding = [(_PADDING_PX, _PADDING_PX + side % 2) for side in image.shape]
    padded = np.pad(image, padding, mode="symmetric")
    spectrum = np.fft.rfft2(padded)
    fy, fx = np.fft.fftfreq(padded.shape[0])[:, None], np.fft.rfftfreq(padded.shape[1])[None]
    squared = fy**2 + fx**2
    gaussians = (np.exp(-2 * np.pi**2 * sigma**2 * squared) for sigma in _SIGMAS_PX)
    discs = (_disc(radius, padded.shape) for radius in _RADII_PX)
    for transfers in (gaussians, discs):
        for transfer in transfers:
            blurred = np.fft.irfft2(spectrum * transfer, s=padded.shape)
            inner = blurred[_PADDING_PX : _PADDING_PX + height, _PADDING_PX : _PADDING_PX + width]
            yield np.asarray(inner, dtype=np.float32)


def _disc(radius: float, shape: tuple[int, ...]) -> npt.NDArray[np.complex128]:
    """Return the transfer function of a disc whose border is one pixel soft."""
    y, x = (np.minimum(np.arange(side), side - np.arange(side)) for side in shape)
    disc = np.clip(radius + 0.5 - np.hypot(y[:, None], x[None]), 0.0, 1.0)
    return np.asarray(np.fft.rfft2(disc / disc.sum()), dtype=np.complex128)


def _block_means(values: Float32Array, side: int) -> Float32Array:
    """Return the mean of each square; at the right and below squares may be smaller."""
    edges = [np.arange(0, size, side) for size in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)
    sizes = [np.diff(np.append(edge, size)) for edge, size in zip(edges, values.shape, strict=True)]
    return np.asarray(sums / np.multiply.outer(*sizes), dtype=np.float32)


def _with_neighbours(blocks: Float32Array) -> Float32Array:
    """Return the sum of each block and the eight around it; those at the border repeat."""
    height, width = blocks.shape
    padded = np.pad(blocks, 1, mode="edge")
    parts = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float32)
