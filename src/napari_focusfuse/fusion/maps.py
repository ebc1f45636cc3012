"""Which maps can come with a fusion, and who makes them.  This module needs no torch until then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from .catalogue import load_blur_detector, load_method
from .method import (
    ERROR,
    INFERRED,
    MASK,
    FusionError,
    FusionMethod,
    MapInfo,
    MethodInfo,
    PixelMapper,
)

if TYPE_CHECKING:
    from .plan import FusionPlan

DEPTH, CONFIDENCE = "depth", "confidence"
"""What ``--map`` takes for them."""

CONFIDENT = 0.5
"""Confidence from which a depth counts as known; its errors are stated for those pixels."""

FEWEST_PLANES = 3
"""A depth between planes is the peak of a curve, which takes three values to find."""

DEPTH_INFO = MethodInfo(
    name=DEPTH,
    title="Depth map",
    kind="measurement",
    plane_offsets=None,
    halo=31,
    settings={"detail_sigma": 2.0, "energy_sigma": 4.0, "depth_sigma": 4.0},
)


def depth_map(low: float, high: float, unit: str) -> MapInfo:
    """Return the map of heights between two, such as those of the outermost planes."""
    return MapInfo(DEPTH, "Depth", unit, low, high)


def confidence_map() -> MapInfo:
    """Return the map of how sure each depth is."""
    return MapInfo(CONFIDENCE, "Confidence of the depth", None, 0.0, 1.0)


class UnknownMapError(FusionError, LookupError):
    """No map has the name that was given."""

    exit_code = 1


def available_maps() -> Mapping[str, str]:
    """Return what ``--map`` takes and what the user reads: each map's name and title."""
    return MappingProxyType(
        {
            MASK.name: MASK.title,
            DEPTH: "Depth (um, or planes from layer 0 where z is unknown)",
            CONFIDENCE: confidence_map().title,
            INFERRED.name: "Inferred (share of the detail that no layer holds; models only)",
            ERROR.name: "Error to expect (grey levels; models that say it only)",
        }
    )


def load_fusion(
    plan: FusionPlan,
    names: Collection[str] = (),
    device: str = "auto",
    blur_model: str | None = None,
) -> tuple[FusionMethod, tuple[PixelMapper, ...]]:
    """Make ready a plan's method, and what makes the maps that the method does not make itself.

    Imports torch.  Parameters and errors as for :func:`load_mappers`; the method's own maps may be
    among the names.
    """
    offered = {about.name for about in plan.info.offers}
    missing = sorted({INFERRED.name, ERROR.name} & set(names) - offered)
    if missing:
        raise FusionError(
            f"{plan.info.title} does not make the map {missing[0]!r}; choose a model that does, or "
            "leave the map out."
        )
    method = load_method(plan.info, device).at(plan.sampling).showing(names)
    others = [name for name in names if name not in offered]
    return method, load_mappers(others, plan, device, blur_model)


def load_mappers(
    names: Collection[str], plan: FusionPlan, device: str = "auto", blur_model: str | None = None
) -> tuple[PixelMapper, ...]:
    """Make ready what computes maps beside a fusion; imports torch.

    Depth and confidence come from one mapper: asking for either computes both.

    Parameters
    ----------
    names
        Of :func:`available_maps`, in any order.
    plan
        The fusion they come with.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    blur_model
        Name or file of what makes the mask; None: the default one.

    Raises
    ------
    UnknownMapError
        If there is no such map.
    PlaneError
        If the planes are too few to tell depth from.
    FusionError, ModelError, DeviceError
        If no blur model is installed, it is damaged, or there is no such device.
    """
    known = available_maps()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownMapError(f"There is no map {unknown[0]!r}; choose one of {', '.join(known)}.")
    mappers: list[PixelMapper] = []
    if MASK.name in names:
        detector = load_blur_detector(device, blur_model)
        if detector is None:
            raise FusionError("No blur model is installed, so there is no mask; leave it out.")
        mappers.append(detector)
    if DEPTH in names or CONFIDENCE in names:
        from .depth import depth_mapper
        from .device import find_device

        mappers.append(depth_mapper(plan, find_device(device).name))
    return tuple(mappers)
