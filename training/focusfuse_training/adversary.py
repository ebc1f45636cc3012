"""The game of the paper's Algorithm 1: the generator convinces the adversary, which learns too."""

from __future__ import annotations

from lightning_fabric import Fabric
from torch import Tensor

from napari_focusfuse.training_config import TrainingConfig

from .learner import Trained
from .losses import adversarial_loss


def judge(
    adversary: Trained, output: Tensor, stacked: Tensor, config: TrainingConfig, fabric: Fabric
) -> Tensor:
    """Return how far the adversary is from taking the output for real; it does not learn.

    Parameters
    ----------
    output, stacked
        The generator's (B, 3, Y, X) result and the (B, C, Y, X) input it was made from.
    """
    critic = adversary.network.requires_grad_(False)
    with fabric.autocast():
        logits = critic(output, stacked)
    critic.requires_grad_(True)
    return adversarial_loss(logits, real=True, kind=config.adversarial_loss)


def teach(
    adversary: Trained,
    truth: Tensor,
    fake: Tensor,
    stacked: Tensor,
    rate: float,
    config: TrainingConfig,
    fabric: Fabric,
) -> float:
    """Let the adversary tell truth from fake (the paper, equation 4); return its last loss.

    The fake is the generator's output of before its update: another pass would cost a third more.
    """
    kind, total = config.adversarial_loss, 0.0
    for _ in range(config.discriminator_steps):
        # Two passes, two backward passes: gradients are shared between processes after both.
        with fabric.no_backward_sync(adversary.forward, enabled=True):
            real = adversarial_loss(adversary.forward(truth, stacked), real=True, kind=kind)
            fabric.backward(real)
        false = adversarial_loss(adversary.forward(fake, stacked), real=False, kind=kind)
        fabric.backward(false)
        adversary.update(rate * config.discriminator_rate, config.clip)
        total = float(real.detach() + false.detach())
    return total
