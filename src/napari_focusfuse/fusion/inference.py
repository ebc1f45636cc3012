"""What of a fused picture was inferred: detail that stands in no plane.

In each band of detail the output is held against the planes.  Up to twice the strength of the
sharpest plane counts as recovered: the plane holds the detail, dimmed.  What goes beyond was made,
by whatever the method has learnt of other pictures.  Noise counts as detail of the planes, so
detail must also stand out of it to count as held.
"""

from __future__ import annotations

from torch import Tensor

from napari_focusfuse.models.selection import blur

from .bands import grey

GAIN = 2.0
"""Amplification up to which detail counts as recovered, not as made."""
REACH = 12
"""Pixels a share looks to each side: the widest Gaussian and the window."""
_EDGES = ((0.7, 2), (1.5, 4), (3.0, 7))
"""Sigma and radius, in pixels, of the Gaussians between which the bands lie."""
_WINDOW = (2.0, 5)
"""Sigma and radius of the window over which a band's strength is taken."""
_FLOOR = 1 / 255
"""Detail of a grey level or less is nobody's claim."""


def inferred_share(planes: Tensor, fused: Tensor) -> Tensor:
    """Return which share of the local detail was made by the method.

    Parameters
    ----------
    planes
        (B, Z, 3, Y, X) float tensor in [0, 1]: what was fused.
    fused
        (B, 3, Y, X) float tensor: the result.

    Returns
    -------
    (B, Y, X) tensor in [0, 1]
    """
    made = total = fused.new_zeros(())
    held = _strengths(planes)
    for inside, found in zip(held, _strengths(fused.unsqueeze(1)), strict=True):
        strength = found[:, 0]
        made = made + (strength - GAIN * inside.amax(dim=1)).clamp(min=0)
        total = total + strength
    return made / (total + _FLOOR)


def _strengths(images: Tensor) -> list[Tensor]:
    """Return the local root mean square of each band of (B, Z, 3, Y, X) images, (B, Z, Y, X)."""
    luma = grey(images.flatten(0, 1)).view(*images.shape[:2], *images.shape[3:])
    smooth = [blur(luma, *edge) for edge in _EDGES]
    bands = [fine - coarse for fine, coarse in zip([luma, *smooth], smooth, strict=False)]
    return [blur(band * band, *_WINDOW).clamp(min=0).sqrt() for band in bands]
