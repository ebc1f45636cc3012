"""Which focal planes of a slide a method gets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from napari_focusfuse.slide import FocalPlane, PlaneError, Slide

from .method import MethodInfo

Wanted = Literal["one", "three", "all"] | tuple[int, ...]
"""What can be asked for: a family, or literal offsets from layer 0."""

TOLERANCE = 1.5
"""A model used at a z step or pixel size this many times its own, or less, needs no warning."""


def choose_planes(
    slide: Slide, info: MethodInfo, wanted: Wanted, centre: FocalPlane | None = None
) -> tuple[FocalPlane, ...]:
    """Choose the focal planes to fuse.

    Parameters
    ----------
    slide, info
        The slide, and the method that will get the planes.
    wanted
        ``"one"``; ``"three"``: layer 0 and the planes nearest to one z step of the model above and
        below it, or its neighbours where method or slide know no z; ``"all"``; or offsets, which
        are taken literally.
    centre
        The plane that counts as layer 0; None: the slide's own.

    Returns
    -------
    Planes in the method's input order: by increasing z, or as the offsets were given.

    Raises
    ------
    PlaneError
        If the slide has no such planes, or the method does not take that many.
    """
    middle = slide.planes[slide.zero] if centre is None else centre
    if wanted == "one":
        planes: tuple[FocalPlane, ...] = (middle,)
    elif wanted == "three":
        planes = _three(slide, info, middle)
    elif wanted == "all":
        planes = slide.planes
    elif isinstance(wanted, tuple):
        planes = _literal(slide, middle, wanted)
    else:
        raise PlaneError(
            f"{wanted!r} names no focus layers; ask for one, three, all, or offsets such as -1,0,1."
        )
    count = None if info.plane_offsets is None else len(info.plane_offsets)
    if count is not None and len(planes) != count:
        raise PlaneError(
            f"{info.title} takes {_layers(count)}, not {len(planes)}; choose {_layers(count)}, or "
            "another method."
        )
    return planes


def offset_names(slide: Slide, planes: Sequence[FocalPlane]) -> str:
    """Return the planes' offsets from the slide's layer 0 for the user, such as "-1, 0, +1"."""
    offsets = [slide.offset(plane) for plane in planes]
    return ", ".join(f"{offset:+d}" if offset else "0" for offset in offsets)


def step_warning(slide: Slide, info: MethodInfo, planes: Sequence[FocalPlane]) -> str | None:
    """Return a sentence if the planes' distance is far from what the model was made for."""
    heights = [plane.z_um for plane in planes if plane.z_um is not None]
    if info.z_step_um is None or len(heights) < max(2, len(planes)):
        return None
    gaps = [abs(upper - lower) for lower, upper in pairwise(heights)]
    worst = max(gaps, key=lambda gap: _mismatch(gap, info.z_step_um))
    if _mismatch(worst, info.z_step_um) <= TOLERANCE:
        return None
    return (
        f"{info.title} was made for focus layers {info.z_step_um:g} um apart, these are "
        f"{worst:g} um apart"
    )


def scale_warning(info: MethodInfo, mpp: tuple[float, float] | None) -> str | None:
    """Return a sentence if the (y, x) pixel size is unknown or far from the model's."""
    if info.mpp is None:
        return None
    if mpp is None:
        return f"pixel size unknown, treated as the model's {info.mpp:.2f} um/px"
    worst = max(mpp, key=lambda size: _mismatch(size, info.mpp))
    if _mismatch(worst, info.mpp) <= TOLERANCE:
        return None
    return f"{info.title} was made for {info.mpp:.2f} um/px, these pixels are {worst:.2f} um"


def _mismatch(value: float, made_for: float | None) -> float:
    if made_for is None or value <= 0:
        return float("inf")
    return max(value / made_for, made_for / value)


def _takes(info: MethodInfo, count: int) -> bool:
    return info.plane_offsets is None or len(info.plane_offsets) == count


def _layers(count: int) -> str:
    return "1 focus layer" if count == 1 else f"{count} focus layers"


def _three(slide: Slide, info: MethodInfo, middle: FocalPlane) -> tuple[FocalPlane, ...]:
    below, above = slide.planes[: middle.index], slide.planes[middle.index + 1 :]
    if len(slide.planes) < 3:
        raise PlaneError(
            f"{slide.path.name} has {_layers(len(slide.planes))}, so three cannot be fused; "
            f"fuse one layer{', or both' if _takes(info, 2) and len(slide.planes) == 2 else ''}."
        )
    if not below or not above:
        side = "below" if not below else "above"
        raise PlaneError(
            f"Layer {slide.offset(middle):+d} is at the end of the stack, with none {side} it; "
            "fuse one layer, or move away from the end."
        )
    return _nearest(below, middle, info, -1), middle, _nearest(above, middle, info, +1)


def _nearest(
    side: Sequence[FocalPlane], middle: FocalPlane, info: MethodInfo, direction: int
) -> FocalPlane:
    neighbour = side[0] if direction > 0 else side[-1]
    if info.z_step_um is None or middle.z_um is None or any(p.z_um is None for p in side):
        return neighbour
    target = middle.z_um + direction * info.z_step_um
    # On a tie the nearer to the middle: blur grows with distance.
    ordered = side if direction > 0 else side[::-1]
    return min(ordered, key=lambda plane: abs((plane.z_um or 0.0) - target))


def _literal(slide: Slide, middle: FocalPlane, offsets: tuple[int, ...]) -> tuple[FocalPlane, ...]:
    if not offsets or len(set(offsets)) < len(offsets):
        raise PlaneError(
            f"{list(offsets)} is no choice of focus layers; name each layer once, such as -1,0,1."
        )
    return tuple(slide.plane_at(slide.offset(middle) + offset) for offset in offsets)
