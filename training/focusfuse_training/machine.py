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
    precision: Any = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if fast_dtype(accelerator) == "bfloat16" else "32-true"
    return Fabric(
        accelerator=accelerator,
        devices=config.devices,
        strategy=config.strategy,
        precision=precision,
    )
