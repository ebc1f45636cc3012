"""What a run trains and what it takes to go on: networks, optimisers, counters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_focusfuse.models import build
from napari_focusfuse.models.generator import stack_with_masks
from napari_focusfuse.models.swift import Restoration, SwiftGenerator
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.weights import load_model

from .discriminators import build_discriminator
from .patches import Batch

Tensors = dict[str, Tensor]
_COUNTERS = ("step", "patches", "best", "batch", "patch")


@dataclass
class Trained:
    """A network with its optimiser."""

    network: nn.Module
    """The network itself: no precision, no processes."""
    forward: Any
    """The network as Fabric runs it: in the recipe's precision, gradients shared."""
    optimiser: Any

    @classmethod
    def of(cls, network: nn.Module, config: TrainingConfig, fabric: Fabric) -> Trained:
        """Prepare a network for training, on Fabric's device."""
        if fabric.device.type == "cuda":  # what tensor cores want; older CPUs are slower with it
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its types
        optimiser = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, betas=(config.beta1, 0.999)
        )
        return cls(network, *fabric.setup(network, optimiser))

    def update(self, rate: float, clip: float) -> None:
        """Change the weights by their gradients and forget those."""
        if clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def state(self) -> Tensors:
        """Return weights and moments as plain tensors."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        return tensors

    def restore(self, tensors: Tensors) -> None:
        """Take up what :meth:`state` returned."""
        self.network.load_state_dict(_under("network.", tensors))
        moments: dict[int, Tensors] = {}
        for key, value in _under("optimiser.", tensors).items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


@dataclass
class Learner:
    """Everything that changes while a run trains."""

    generator: Trained
    """What is trained: a generator, or a blur model."""
    mean: nn.Module
    """The model of the run: the running mean of the weights."""
    adversary: Trained | None
    blur: nn.Module | None
    """The blur model whose masks the generator takes; frozen."""
    batch: int
    """Patches in an update; fewer than the recipe's once memory ran out."""
    patch: int
    step: int = 0
    patches: int = 0
    """Patches seen, over all processes."""
    best: float = math.inf
    """The lowest validation error."""
    bad_steps: int = field(default=0, compare=False)
    """Steps in a row whose loss was not a number."""

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.mean.parameters()).device

    def inputs(self, batch: Batch) -> Tensor:
        """Return the planes, with their blur masks if the network takes them."""
        if self.blur is None:
            return batch.stacked
        with torch.inference_mode():
            masked = stack_with_masks(batch.stacked.unflatten(1, (-1, 3)), self.blur)
        return masked.clone()  # a tensor made in inference mode cannot be learnt from

    def restore_mean(self, batch: Batch) -> Restored:
        """Return what the running mean of the weights makes of a batch."""
        return run_network(self.mean, self.inputs(batch), batch)

    def update_mean(self, decay: float) -> None:
        """Move the running mean towards the weights; early on it follows them closely."""
        decay = min(decay, (1 + self.step) / (10 + self.step)) if decay else 0.0
        network = self.generator.network
        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            # Statistics of batch normalisation are running means already.
            for kept, measured in zip(self.mean.buffers(), network.buffers(), strict=True):
                kept.copy_(measured)

    def settle_statistics(self, batches: Iterable[Batch]) -> None:
        """Measure the statistics of the mean's batch normalisation anew, over some batches.

        The running ones lag behind the weights, and through fifty layers that adds up to noise
        ("precise BN", Wu & Johnson 2021, arXiv:2105.07576).
        """
        norms = [m for m in self.mean.modules() if isinstance(m, nn.BatchNorm2d)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average of all batches
            norm.train()  # and nothing else: dropout stays off
        with torch.inference_mode():
            for batch in batches:
                self.mean(self.inputs(batch.to(self.device)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    def state(self) -> Tensors:
        """Return everything that resuming needs, as plain tensors on the CPU."""
        tensors = dict(self._parts("generator", self.generator.state()))
        tensors |= self._parts("mean", self.mean.state_dict())
        if self.adversary is not None:
            tensors |= self._parts("adversary", self.adversary.state())
        values = [float(getattr(self, name)) for name in _COUNTERS]
        tensors["counters"] = torch.tensor(values, dtype=torch.float64)
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}

    def restore(self, tensors: Tensors) -> None:
        """Take up a state that :meth:`state` returned."""
        self.generator.restore(_under("generator.", tensors))
        self.mean.load_state_dict(_under("mean.", tensors))
        if self.adversary is not None:
            self.adversary.restore(_under("adversary.", tensors))
        counters = dict(zip(_COUNTERS, tensors["counters"].tolist(), strict=True))
        self.best = counters.pop("best")
        for name, value in counters.items():
            setattr(self, name, int(value))

    @staticmethod
    def _parts(prefix: str, tensors: Tensors) -> Tensors:
        return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Restored:
    """What a generator made of a batch."""

    image: Tensor
    """(B, 3, Y, X), not clipped."""
    log_error: Tensor | None
    """(B, 1, Y, X) logarithm of the error it expects; None of networks that expect none."""


def run_network(forward: Any, stacked: Tensor, batch: Batch) -> Restored:
    """Run a generator, or whatever runs it, on planes (with masks) of a batch."""
    # The swift generator alone is told how planes and pixels lie.
    network = getattr(forward, "module", forward)
    if isinstance(network, SwiftGenerator):
        found: Restoration = forward(stacked, batch.sampling)
        return Restored(found.fused, found.log_error)
    return Restored(forward(stacked), None)


def make_learner(config: TrainingConfig, blur: nn.Module | None, fabric: Fabric) -> Learner:
    """Build the networks and what trains them, on Fabric's device.

    Raises
    ------
    RecipeError, ModelError
        If the recipe contradicts itself, or the model to start from is of another kind or damaged.
    """
    network = build(config.architecture, dict(config.network))
    if bool(getattr(network.config, "mask", False)) != (blur is not None):
        raise RecipeError(
            f"The recipe {config.name} must name a blur_model if and only if its network takes "
            "masks; set blur_model, or mask = false under [network]."
        )
    if config.start:
        start, card = load_model(config.start)
        if (card.architecture, start.config) != (config.architecture, network.config):
            raise RecipeError(f"{config.start} is another network than the recipe's; start afresh.")
        network.load_state_dict(start.state_dict())
    mean = build(config.architecture, dict(config.network))
    mean.load_state_dict(network.state_dict())
    adversary = None
    if config.adversary:
        rival = build_discriminator(config.adversary, config.planes, dict(config.discriminator))
        adversary = Trained.of(rival, config, fabric)
    return Learner(
        generator=Trained.of(network, config, fabric),
        mean=_frozen(mean, fabric),
        adversary=adversary,
        blur=None if blur is None else _frozen(blur, fabric),
        batch=config.batch,
        patch=config.patch,
    )


def _frozen(network: nn.Module, fabric: Fabric) -> nn.Module:
    return network.requires_grad_(False).eval().to(fabric.device)


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return dict(_stripped(prefix, tensors))


def _stripped(prefix: str, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), tensor
