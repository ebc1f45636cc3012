"""On which device networks run.  Asking imports torch, so never ask on the window's thread."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from .method import FusionError

REQUESTS = ("auto", "cpu", "cuda", "mps")


class DeviceError(FusionError):
    """The device that was asked for is not there."""

    exit_code = 1


@dataclass(frozen=True)
class DeviceChoice:
    """A device to compute on."""

    name: str
    """As torch names it: ``"cpu"``, ``"cuda"`` or ``"mps"``."""
    description: str
    """For the user, such as ``"NVIDIA H100 80GB HBM3"`` or ``"CPU, 2 threads"``."""
    why_not_gpu: str | None = None
    """One sentence, or None on a GPU."""


def find_device(request: str = "auto") -> DeviceChoice:
    """Choose the device to compute on.

    Parameters
    ----------
    request
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Raises
    ------
    DeviceError
        If the device is unknown, or not usable here.
    """
    if request not in REQUESTS:
        raise DeviceError(f"There is no device {request!r}; choose one of {', '.join(REQUESTS)}.")
    import torch

    missing = _missing()
    if request in missing:
        raise DeviceError(f"{missing[request]} Choose the device auto or cpu.")
    if request in ("auto", "cuda") and "cuda" not in missing:
        return DeviceChoice("cuda", torch.cuda.get_device_name())
    if request in ("auto", "mps") and "mps" not in missing:
        return DeviceChoice("mps", "Apple GPU")
    threads = torch.get_num_threads()
    description = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    if request == "cpu":
        return DeviceChoice("cpu", description, "The CPU was asked for.")
    likely = "mps" if platform.system() == "Darwin" else "cuda"
    return DeviceChoice("cpu", description, missing[likely])


def _missing() -> dict[str, str]:
    """Return a sentence for each kind of GPU that cannot be used here."""
    import torch

    missing = {}
    if not torch.cuda.is_available():
        missing["cuda"] = (
            "No NVIDIA GPU with a working driver was found."
            if torch.backends.cuda.is_built()
            else "The installed torch is a CPU build, so an NVIDIA GPU cannot be used."
        )
    if not torch.backends.mps.is_available():
        missing["mps"] = (
            "No Apple GPU with macOS 14 or newer was found."
            if torch.backends.mps.is_built()
            else "The installed torch is not built for Apple GPUs."
        )
    return missing
