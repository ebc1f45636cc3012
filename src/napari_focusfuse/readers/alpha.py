"""Transparency: what was not scanned shows the background."""

from __future__ import annotations

import numpy as np

from napari_focusfuse.slide import UInt8Image


def over(
    rgba: UInt8Image, background: tuple[int, int, int], *, premultiplied: bool = False
) -> UInt8Image:
    """Lay an image with transparency over one colour.

    Parameters
    ----------
    rgba
        (Y, X, 3 | 4) uint8.
    background
        (red, green, blue), 0 to 255.
    premultiplied
        Whether the colours were already multiplied by alpha (TIFF: associated alpha).

    Returns
    -------
    (Y, X, 3) uint8 array, never a view of the input
    """
    colour = rgba[..., :3]
    if rgba.shape[-1] == 3 or bool((rgba[..., 3] == 255).all()):
        return np.array(colour, order="C")
    alpha = rgba[..., 3:].astype(np.uint16)
    behind = (np.array(background, dtype=np.uint16) * (255 - alpha) + 127) // 255
    if premultiplied:
        return np.minimum(colour + behind, 255).astype(np.uint8)
    blend = colour * alpha + np.array(background, dtype=np.uint16) * (255 - alpha)
    return ((blend + 127) // 255).astype(np.uint8)
