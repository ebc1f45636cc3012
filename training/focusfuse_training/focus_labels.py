"""Where layer 0 of a real stack is blurred, as far as its other focal planes can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from napari_focusfuse.models.selection import blur, laplacian_energy
from napari_focusfuse.slide import UInt8Image

from .masks import UNKNOWN

MARGIN = 4.0
"""Times the sharpness of one plane another must have before a pixel gets a label.

Measured on the cells of drawn smears (5 planes, 2.7 um apart, shot noise, JPEG 90), where truth is
blur of more than one pixel: of the pixels labelled blurred 97 % were, at any margin from 2 on; of
those labelled sharp 59 % were with a margin of 2, 77 % with 4 and 90 % with 6, which labels less
than half as many as 4.  No margin mends two things: the sharpest of planes so far apart may itself
lie up to 1.35 um from focus, and of cells that overlap only one can be in focus.
"""
TEXTURE = 1e-3
"""Least sharpness (squared Laplacian of grey in [0, 1]) that is not noise: empty glass of the same
smears stays below 0.0009 in 99 % of its pixels."""
NOISE = 1.1
"""Times the sharpness of layer 0 a plane within the depth of field may have by noise alone."""
DEPTH_OF_FIELD_UM = 1.0
"""Planes nearer than this to layer 0 may be as sharp as it."""
_ENERGY_SIGMA = 4.0


def label_blur(
    planes: UInt8Image, zero: int, z_um: Sequence[float | None] | None = None
) -> npt.NDArray[np.uint8]:
    """Return where a plane is blurred: 1 blurred, 0 sharp, 255 unknown.

    Blurred is where another plane is sharper by :data:`MARGIN`; sharp is where this one is sharper
    than every other by that margin, and no worse than those within the depth of field.

    Parameters
    ----------
    planes
        (Z, Y, X, 3) uint8.
    zero
        Index of the plane in question.
    z_um
        Heights of the planes where they are known.

    Returns
    -------
    (Y, X) uint8
    """
    if len(planes) < 2:
        return np.full(planes.shape[1:3], UNKNOWN, np.uint8)
    own = _sharpness(planes[zero])
    far, near = np.zeros_like(own), np.zeros_like(own)
    for index, plane in enumerate(planes):
        if index != zero:
            group = near if _is_near(z_um, index, zero) else far
            np.maximum(group, _sharpness(plane), out=group)
    labels = np.full(own.shape, UNKNOWN, np.uint8)
    best = np.maximum(far, near)
    labels[(own > TEXTURE) & (own >= MARGIN * far) & (own * NOISE >= near)] = 0
    labels[(best > TEXTURE) & (best > MARGIN * own)] = 1
    return labels


def _sharpness(plane: UInt8Image) -> npt.NDArray[np.float32]:
    pixels = torch.from_numpy(np.ascontiguousarray(plane)).permute(2, 0, 1).float() / 255.0
    smooth: npt.NDArray[np.float32] = blur(
        laplacian_energy(pixels[None, None]), _ENERGY_SIGMA
    ).numpy()[0, 0]
    return smooth


def _is_near(z_um: Sequence[float | None] | None, index: int, zero: int) -> bool:
    if z_um is None:
        return False
    height, own = z_um[index], z_um[zero]
    return height is not None and own is not None and abs(height - own) < DEPTH_OF_FIELD_UM
