"""Which fusion methods there are.  This module needs no torch until one is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .method import FusionMethod, MethodInfo, UnknownMethodError

if TYPE_CHECKING:
    from .neural import BlurDetector

ARGMAX = MethodInfo(
    name="argmax",
    title="Sharpest layer",
    kind="selection",
    plane_offsets=None,
    halo=18,
    settings={"energy_sigma": 4.0, "decision_sigma": 1.5},
)
PYRAMID = MethodInfo(
    name="pyramid",
    title="Laplacian pyramid",
    kind="selection",
    plane_offsets=None,
    halo=80,
    multiple_of=16,
    settings={"levels": 4, "window": 5},
)


def available_methods() -> tuple[MethodInfo, ...]:
    """Return what every installed method says of itself, classical ones first."""
    return (ARGMAX, PYRAMID)


def method_info(name: str, planes: int | None = None) -> MethodInfo:
    """Return the method of a name.

    Parameters
    ----------
    name
        A method's name, the name of a family such as ``"swift"``, or the path of a model file.
    planes
        How many focal planes will be fused; chooses within a family.  None: three if it has them.

    Raises
    ------
    UnknownMethodError
        If nothing has this name.
    """
    for info in available_methods():
        if info.name == name:
            return info
    names = ", ".join(info.name for info in available_methods())
    raise UnknownMethodError(f"There is no fusion method {name!r}; choose one of {names}.")


def load_method(method: str | MethodInfo, device: str = "auto") -> FusionMethod:
    """Make a method ready to fuse; imports torch, so never call it on the window's thread.

    Parameters
    ----------
    method
        A name, see :func:`method_info`, or a declaration from this module.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    from .argmax import ArgmaxMethod
    from .device import find_device
    from .pyramid import PyramidMethod

    info = method_info(method) if isinstance(method, str) else method
    chosen = find_device(device).name
    if info.name == ARGMAX.name:
        return ArgmaxMethod(info, chosen)
    return PyramidMethod(info, chosen)


def blur_detector_info() -> MethodInfo | None:
    """Return what the shipped blur detector says of itself, or None where none is shipped."""
    return None


def load_blur_detector(device: str = "auto") -> BlurDetector | None:
    """Load the shipped blur detector, or return None where none is shipped; imports torch."""
    return None
