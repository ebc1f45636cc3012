"""How long a training takes and how much disk it needs, before it starts."""

from __future__ import annotations

from napari_focusfuse.training_config import TrainingConfig

from .fuse_request import duration

SECONDS_PER_MEGAPIXEL: dict[tuple[str, int, int], float] = {
    ("swift", 1, 40): 3.1,
    ("swift", 3, 40): 3.7,
    ("small-blur", 1, 32): 1.1,
}
"""Seconds per million pixels of training patches, forward and backward, for (architecture, focus
layers, width): the pace of ``training/logs/*.jsonl``, on two cores of a server's processor.  For
others, and other machines, ``benchmarks/train.py`` prints it."""

SIMULATED_PLANES = 3
"""Focus layers of each simulated stack, whatever the network takes."""

STATE_BYTES = 100e6
"""Room for models, states and logs beside the patches."""


def disk_bytes(config: TrainingConfig, slides: int, *, images: bool) -> float:
    """Return about how many bytes a run writes, most of them into its cache of patches.

    Parameters
    ----------
    slides
        How many slides it learns from.
    images
        Whether stacks are simulated from sharp images.
    """
    stacks = (config.stacks + config.degraded) * config.stack_px**2 if images else 0
    cut = slides * config.patches_per_slide * config.patch**2
    patches = stacks * _pixel_bytes(SIMULATED_PLANES) + cut * _pixel_bytes(config.planes)
    return min(patches, config.cache_gb * 1e9) + STATE_BYTES


def _pixel_bytes(planes: int) -> int:
    """Return the bytes of a pixel of a stack: its layers, two truths in colour, mask and blur."""
    return 3 * planes + 3 + 3 + 1 + 2


def training_seconds(config: TrainingConfig, device: str) -> float | None:
    """Return about how long the steps take, or None where it was never measured.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``; only the CPU was measured.
    """
    width = int(config.network.get("width", 0))
    rate = SECONDS_PER_MEGAPIXEL.get((config.architecture, config.planes, width))
    if rate is None or device not in ("auto", "cpu"):
        return None
    return config.steps * config.batch * config.patch**2 / 1e6 * rate


def estimate(config: TrainingConfig, device: str, slides: int, *, images: bool) -> str:
    """Return time and disk in one line."""
    seconds = training_seconds(config, device)
    if seconds is None:
        time = "time unknown until it runs"
    elif device == "auto":
        time = f"about {duration(seconds)} on a processor with two cores, less on a GPU"
    else:
        time = f"about {duration(seconds)} on two cores"
    return f"{config.steps:,} steps · {time} · at most {disk_text(config, slides, images=images)}"


def disk_text(config: TrainingConfig, slides: int, *, images: bool) -> str:
    """Return the disk space as people say it."""
    size = disk_bytes(config, slides, images=images)
    return f"{size / 1e9:.1f} GB of disk" if size >= 1e9 else f"{size / 1e6:.0f} MB of disk"
