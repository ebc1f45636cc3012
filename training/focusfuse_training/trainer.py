"""The training loop: flat, resumable, the same numbers for the same recipe."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_focusfuse.benchmark_definition import OPTICS, Z_STEP_UM, data_set
from napari_focusfuse.model_card import ModelCard
from napari_focusfuse.models import build
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import TrainingRun
from napari_focusfuse.weights import load_model, save_model

from .losses import blur_loss, generator_loss, ssim
from .masks import Confusion
from .patches import Batch, cut
from .simulation import STACK_PX, TrainingStack, render_cache

log = logging.getLogger(__name__)

VALIDATION_STACKS = 8
_WARM_UP_STEPS = 200
_LIMITS = (
    "Research use only: not for diagnosis; a restored pixel is an inference, not an observation.",
    "Trained on simulated defocus of conventional Papanicolaou smears only: other stains, scanners "
    "and optics were not seen.",
    "Cells outside the captured focus layers by more than about 3 um are beyond recovery.",
    "Not for unstained or refracting specimens: on live algae the three-layer model scored below "
    "the untouched layer.",
)


class TrainingError(RuntimeError):
    """Training cannot go on."""


def is_blur_model(architecture: str) -> bool:
    """Tell whether an architecture segments blur; the others return images."""
    return architecture in ("blur", "small-blur")


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the rate at a step: linear warm-up, then a half cosine to zero."""
    if step < _WARM_UP_STEPS:
        return config.learning_rate * (step + 1) / _WARM_UP_STEPS
    done = (step - _WARM_UP_STEPS) / max(1, config.steps - _WARM_UP_STEPS)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@dataclass
class Learner:
    """A network, its optimiser, and the running mean of its weights."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    mean: nn.Module
    step: int = 0
    best: float = math.inf

    def update_mean(self, decay: float) -> None:
        """Move the running mean towards the weights; early on it follows them closely."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(self.mean.parameters(), self.network.parameters(), strict=True)
            for mean, now in pairs:
                mean.lerp_(now.to(mean.device), 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, as plain tensors."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        counters = torch.tensor([float(self.step), self.best], dtype=torch.float64)
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()} | {
            "counters": counters
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up a state that :meth:`state` returned."""
        self.network.load_state_dict(_under("network.", tensors))
        self.mean.load_state_dict(_under("mean.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimiser.", tensors).items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.best = int(tensors["counters"][0]), float(tensors["counters"][1])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def train(run: TrainingRun, images: Path, cache: Path, *, accelerator: str = "auto") -> None:
    """Train, or go on with, the run of a folder until its recipe's steps are done or it is stopped.

    Parameters
    ----------
    images
        Folder of the data set's images.
    cache
        Folder for rendered stacks; runs of the same data set share it.
    """
    config = TrainingConfig.read(run.config_file)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=config.precision)
    planes = int(config.network.get("planes", 1))
    fabric.seed_everything(config.seed, verbose=False)
    training, validation = load_stacks(config, images, cache)
    learner = make_learner(config, fabric)
    if run.state.exists():
        learner.restore(load_file(run.state, device="cpu"))
    started = time.perf_counter()
    while learner.step < config.steps and not run.stop_requested():
        batch = cut(training, planes, config.patch, config.batch, (config.seed, learner.step))
        for group in learner.optimiser.param_groups:
            group["lr"] = learning_rate(learner.step, config)
        loss = step(learner, batch.to(fabric.device), config, fabric)
        learner.step += 1
        learner.update_mean(config.mean_decay)
        if learner.step % 50 == 0:
            record = {"step": learner.step, "loss": loss, "seconds": time.perf_counter() - started}
            run.log(record)
        if learner.step % config.validate_every == 0 or learner.step == config.steps:
            save(run, config, learner, validate(learner.mean, validation, config))
    save_state(run, learner)


def step(learner: Learner, batch: Batch, config: TrainingConfig, fabric: Fabric) -> float:
    """Take one optimiser step and return the loss.

    Raises
    ------
    TrainingError
        If the loss is not a number: the last checkpoint is still good.
    """
    output = learner.network(batch.stacked)
    if is_blur_model(config.architecture):
        loss = blur_loss(output, batch.blurred)
    else:
        loss = generator_loss(output, batch.truth, config.ssim_weight)
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"The loss is {float(loss)} at step {learner.step}: lower learning_rate."
        )
    learner.optimiser.zero_grad(set_to_none=True)
    fabric.backward(loss)
    torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 1.0)
    learner.optimiser.step()
    return float(loss.detach())


def load_stacks(
    config: TrainingConfig, images: Path, cache: Path
) -> tuple[list[TrainingStack], list[TrainingStack]]:
    """Return the training and the validation stacks, rendering what the cache lacks."""
    if config.patch > STACK_PX:
        raise RecipeError(f"patch = {config.patch} in the recipe must be at most {STACK_PX}.")
    data = data_set(config.data_set)
    fields = data.read(images, "train")
    # The stem: a data set may be given by the path of its file, the cache stays one folder.
    known_as = Path(config.data_set).stem
    folder = cache / f"{known_as}-train"
    paths = render_cache(folder, fields, config.stacks, config.seed)
    if config.degraded:
        paths += render_cache(folder, fields, config.degraded, config.seed, degraded=True)
    held_out = render_cache(
        cache / f"{known_as}-validation",
        data.read(images, "validation"),
        min(VALIDATION_STACKS, config.stacks),
        config.seed + 1,
    )
    return [TrainingStack.load(p) for p in paths], [TrainingStack.load(p) for p in held_out]


def make_learner(config: TrainingConfig, fabric: Fabric) -> Learner:
    """Build the network and what trains it, on Fabric's device.

    Raises
    ------
    RecipeError, ModelError
        If the model to start from is of another kind, or damaged.
    """
    network = build(config.architecture, dict(config.network))
    if config.start:
        start, card = load_model(config.start)
        if (card.architecture, start.config) != (config.architecture, network.config):
            raise RecipeError(f"{config.start} is another network than the recipe's; start afresh.")
        network.load_state_dict(start.state_dict())
    mean = build(config.architecture, dict(config.network))
    mean.load_state_dict(network.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its types
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    network, optimiser = fabric.setup(network, optimiser)
    return Learner(network, optimiser, mean.requires_grad_(False).eval().to(fabric.device))


@torch.inference_mode()
def validate(
    network: nn.Module, stacks: list[TrainingStack], config: TrainingConfig
) -> dict[str, float]:
    """Return mean scores over the validation stacks; ``error`` is the one to minimise."""
    device = next(network.parameters()).device
    planes = int(config.network.get("planes", 1))
    batches = [cut([s], planes, STACK_PX, 1, (i,)).to(device) for i, s in enumerate(stacks)]
    if is_blur_model(config.architecture):
        return _mask_scores(network, batches)
    scores = [_image_scores(network(batch.stacked).clamp(0, 1), batch) for batch in batches]
    return {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}


def _mask_scores(network: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Score masks by IoU, both classes alike: a loss would judge confidence, not the mask."""
    counts = Confusion()
    for batch in batches:
        mask = network(batch.stacked).argmax(dim=1) == 1
        counts += Confusion.of(mask.cpu().numpy(), batch.blurred.cpu().numpy())
    return {
        "error": 1 - 0.5 * (counts.iou + counts.iou_sharp),
        "iou": counts.iou,
        "iou_sharp": counts.iou_sharp,
    }


def _image_scores(output: Tensor, batch: Batch) -> dict[str, float]:
    middle = batch.stacked.shape[1] // 6 * 3
    layer = batch.stacked[:, middle : middle + 3]
    return {
        "error": 1 - float(ssim(output, batch.truth)),
        "input_error": 1 - float(ssim(layer, batch.truth)),
        "absolute": float((output - batch.truth).abs().mean()),
    }


def save(
    run: TrainingRun, config: TrainingConfig, learner: Learner, scores: dict[str, float]
) -> None:
    """Log a validation and write the models and the state."""
    run.log({"step": learner.step, "validation": scores})
    log.info("step %d of %d: %s", learner.step, config.steps, scores)
    card = make_card(config, learner, scores)
    save_model(run.last, learner.mean, card)
    if scores["error"] < learner.best:
        learner.best = scores["error"]
        save_model(run.best, learner.mean, card)
    save_state(run, learner)


def save_state(run: TrainingRun, learner: Learner) -> None:
    """Write what resuming needs, atomically."""
    partial = run.state.with_suffix(".partial")
    save_file(learner.state(), partial)
    os.replace(partial, run.state)


def make_card(config: TrainingConfig, learner: Learner, scores: dict[str, float]) -> ModelCard:
    """Describe the model as the window and the shell show it."""
    data = data_set(config.data_set)
    planes = int(config.network.get("planes", 1))
    network = learner.mean
    training: dict[str, Any] = {
        "data_set": data.name,
        "doi": data.doi,
        "licence": data.licence,
        "citation": data.citation,
        "images": sorted(data.images["train"]),
        "split": "by image: 7 train, 1 validation, 1 calibration, 2 test",
        "recipe": asdict(config) | {"network": dict(config.network)},
        "steps_done": learner.step,
        "truth": "simulated defocus; the truth carries the noise of the plane it came from",
        "command": f"python -m focusfuse_training {config.name}.toml --data DIR --out RUN",
    }
    return ModelCard(
        name=config.name,
        title=config.title,
        architecture=config.architecture,
        config=dict(config.network),
        plane_offsets=(0,) if planes == 1 else tuple(range(-(planes // 2), planes // 2 + 1)),
        z_step_um=None if planes == 1 else Z_STEP_UM,
        mpp=OPTICS.mpp,
        halo=int(network.reach),  # type: ignore[arg-type]
        multiple_of=int(network.multiple_of),  # type: ignore[arg-type]
        training=training,
        scores={"validation": scores},
        limits=_LIMITS,
    )
