"""How the learning rate changes over a run."""

from __future__ import annotations

import math

from napari_focusfuse.training_config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, epoch: float) -> float:
    """Return the rate at a step.

    Parameters
    ----------
    step
        Updates done.
    epoch
        Epochs done; the paper's schedule takes a factor off for each whole one.
    """
    if step < config.warm_up:
        return config.learning_rate * (step + 1) / config.warm_up
    return config.learning_rate * _share(config, step, epoch)


def _share(config: TrainingConfig, step: int, epoch: float) -> float:
    done = min(1.0, (step - config.warm_up) / max(1, config.steps - config.warm_up))
    if config.schedule == "epochs":
        return float(config.epoch_decay ** math.floor(epoch))
    if config.schedule == "linear":  # constant over the first half, then to zero
        return min(1.0, 2.0 * (1.0 - done))
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0
