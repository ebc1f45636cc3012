"""On what a run computes: device, precision, processes."""

from __future__ import annotations

from typing import Any

from lightning_fabric import Fabric

from napari_focusfuse.fusion.device import find_device
from napari_focusfuse.fusion.neural import fast_dtype
from napari_focusfuse.training_config import TrainingConfig


def make_fabric(config: TrainingConfig, device: str = "auto") -> Fabric:
    """Return Fabric for a recipe.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Raises
    ------
    DeviceError
        If the device is not there.
    """
    accelerator = find_device(device).name
    precision: Any = precision_on(accelerator, config)
    return Fabric(
        accelerator=accelerator,
        devices=config.devices,
        strategy=config.strategy,
        precision=precision,
    )


def precision_on(device: str, config: TrainingConfig) -> str:
    """Return in what a recipe computes on a device, as Fabric names it; never ``"auto"``."""
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if fast_dtype(device) == "bfloat16" else "32-true"
