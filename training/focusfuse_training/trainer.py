"""The training loop: flat, resumable, the same numbers for the same recipe."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import RunError, TrainingRun

from .adversary import judge, teach
from .checkpoint import blur_model_of, restore_state, save_models, save_state
from .corpus import Corpus, gather
from .focus_pairs import pair_loss
from .learner import Learner, make_learner, run_network
from .losses import blur_losses, content_losses, expectation_loss
from .machine import make_fabric, precision_on
from .pace import Pace
from .patches import Batch, Feeder, Order
from .schedule import learning_rate
from .validation import validate

log = logging.getLogger(__name__)

MAX_BAD_STEPS = 5
"""Steps in a row without a finite loss after which training ends."""
SETTLING = 32
"""Batches over which the statistics of batch normalisation are measured before a validation."""
MIN_PATCH = 64
"""Smallest patch memory may force on a run."""


class TrainingError(RuntimeError):
    """Training cannot go on."""


def train(run: TrainingRun, *, device: str = "auto") -> None:
    """Train, or go on with, the run of a folder until its recipe's steps are done or it is stopped.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    config = run.config()
    fabric = make_fabric(config, device)
    fabric.launch()
    if fabric.is_global_zero:
        run.acquire()
    try:
        _train(run, config, fabric)
    except BaseException as error:
        if fabric.is_global_zero:
            with suppress(OSError):  # a full disk has no room for its own obituary
                run.log({"event": "failed", "text": str(error) or type(error).__name__})
        if isinstance(error, OSError) and not isinstance(error, FocusFuseError):
            raise RunError(
                f"The run {run.folder} cannot be written ({error.strerror or error}); free some "
                "space and resume: the last checkpoint is whole."
            ) from None
        raise
    finally:
        if fabric.is_global_zero:
            run.release()


def _train(run: TrainingRun, config: TrainingConfig, fabric: Fabric) -> None:
    fabric.seed_everything(config.seed, verbose=False)
    with fabric.rank_zero_first():  # it cuts and renders, the others read
        corpus = gather(config, run.data(), run)
    learner = make_learner(config, blur_model_of(run, config), fabric)
    resumed = restore_state(run, learner)
    board = _board(run) if config.tensorboard and fabric.is_global_zero else None
    loop = Loop(run, config, fabric, corpus, learner, board)
    loop.say("resumed" if resumed else "started", _described(config, corpus, fabric))
    while learner.step < config.steps:
        ended = loop.advance()
        if ended:
            break
    if fabric.is_global_zero:
        save_state(run, learner)
    done = learner.step >= config.steps
    loop.say("finished" if done else "stopped", f"after {learner.step} of {config.steps} steps")


def _described(config: TrainingConfig, corpus: Corpus, fabric: Fabric) -> str:
    stacks = sum(len(group.files) for group in corpus.train)
    device = fabric.device.type
    where = f"{fabric.world_size} x {device}, {precision_on(device, config)}"
    return f"{config.title}: {config.steps} steps on {where}, {stacks} training stacks"


@dataclass
class Loop:
    """One process' part of a run."""

    run: TrainingRun
    config: TrainingConfig
    fabric: Fabric
    corpus: Corpus
    learner: Learner
    board: Any = None
    """TensorBoard's writer, or None."""
    started: float = field(default_factory=time.perf_counter)

    def say(self, event: str, text: str) -> None:
        """Write an event to both logs."""
        if self.fabric.is_global_zero:
            log.info("step %d: %s: %s", self.learner.step, event, text)
            self.run.log({"step": self.learner.step, "event": event, "text": text})

    def advance(self) -> bool:
        """Train until the run is done, stopped, or out of memory; return whether it was stopped."""
        size, world = self.learner.batch, self.fabric.world_size
        first = self.learner.patches + self.fabric.global_rank * size
        groups, planes = self.corpus.train, self.config.planes
        config = self.config
        order = Order(
            groups, planes, self.learner.patch, config.seed, config.unknown, config.recolour
        )
        with Feeder(order, first, size, size * world) as feeder:
            since = Pace(feeder)
            while self.learner.step < self.config.steps:
                try:
                    losses = self.train_step(feeder.next().to(self.fabric.device))
                except (MemoryError, RuntimeError) as error:
                    if not _out_of_memory(error) or world > 1:
                        raise
                    self._make_smaller()
                    return False
                if losses is None:
                    return True
                self._report(losses, since)
        return False

    def train_step(self, batch: Batch) -> dict[str, float] | None:
        """Take one step and return its losses, averaged over the processes; None: stop."""
        learner, config = self.learner, self.config
        seen = learner.patches / max(1, self._epoch())
        rate = learning_rate(config, learner.step, seen)
        # Whatever is drawn in a step, it does not depend on what was drawn before.
        torch.manual_seed(
            (config.seed << 32) + learner.step * self.fabric.world_size + self.fabric.global_rank
        )
        losses, output, stacked = self._content(batch)
        joined = learner.adversary is not None and learner.step >= config.adversary_from
        if learner.adversary is not None and joined:
            believed = judge(learner.adversary, output, stacked, config, self.fabric)
            losses["adversarial"] = config.adversarial_weight * believed
        total = sum(losses.values(), torch.zeros((), device=self.fabric.device))
        shared = self._shared({"loss": total.detach(), **losses})
        if shared is None:
            return None
        if not math.isfinite(shared["loss"]):
            self._bad_step(shared["loss"])
        else:
            learner.bad_steps = 0
            self.fabric.backward(total)
            learner.generator.update(rate, config.clip)
            if learner.adversary is not None and joined:
                fake = output.detach().float()
                shared["discriminator"] = teach(
                    learner.adversary, batch.truth, fake, stacked, rate, config, self.fabric
                )
        learner.step += 1
        learner.patches += learner.batch * self.fabric.world_size
        learner.update_mean(config.mean_decay)
        return shared | {"learning_rate": rate}

    def _content(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        stacked, network = self.learner.inputs(batch), self.learner.generator
        network.network.train()
        if self.config.task == "choose":
            loss, output = pair_loss(network.forward, batch.truth)
            return {"entropy": loss}, output, stacked
        if self.config.task == "segment":
            output = network.forward(stacked)
            return blur_losses(output, batch.blurred, batch.blur_ratio), output, stacked
        found = run_network(network.forward, stacked, batch)
        losses = content_losses(found.image, batch.truth, self.config)
        if found.log_error is not None:
            expected = expectation_loss(found.log_error, found.image, batch.truth)
            losses["expectation"] = self.config.expectation_weight * expected
        return losses, found.image, stacked

    def _shared(self, losses: dict[str, Tensor]) -> dict[str, float] | None:
        """Return the losses averaged over the processes, or None if anybody was told to stop."""
        stop = self.fabric.is_global_zero and self.run.stop_requested()
        values = [*(loss.detach().float() for loss in losses.values())]
        told = torch.stack([*values, torch.tensor(float(stop), device=self.fabric.device)])
        if self.fabric.world_size > 1:
            told = self.fabric.all_reduce(told, reduce_op="mean")
        *means, stopped = told.tolist()
        return None if stopped > 0 else dict(zip(losses, means, strict=True))

    def _bad_step(self, loss: float) -> None:
        """Leave the weights alone; after some such steps in a row, end."""
        self.learner.bad_steps += 1
        self.say("bad loss", f"the loss is {loss}; the weights stay as they are")
        if self.learner.bad_steps >= MAX_BAD_STEPS:
            raise TrainingError(
                f"The loss was no number for {MAX_BAD_STEPS} steps, at step {self.learner.step}: "
                "the last checkpoint is good; lower learning_rate or use precision 32-true."
            )

    def _make_smaller(self) -> None:
        """Halve the batch, or the patch once the batch is one."""
        learner = self.learner
        learner.generator.optimiser.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if learner.batch > 1:
            learner.batch //= 2
        elif learner.patch // 2 >= MIN_PATCH:
            learner.patch = learner.patch // 32 * 16
        else:
            raise TrainingError(
                f"Memory does not suffice for one patch of {learner.patch} px: close other "
                "programs, choose a smaller width, or another device."
            )
        self.say("smaller batch", f"memory ran out: now {learner.batch} x {learner.patch} px")

    def _epoch(self) -> int:
        """Return how many patches make an epoch."""
        if self.config.epoch:
            return self.config.epoch
        area = self.config.patch**2
        files = (file for group in self.corpus.train for file in group.files)
        return sum(max(1, file.shape[0] * file.shape[1] // area) for file in files)

    def _record(self, record: dict[str, Any]) -> None:
        """Append to the log, and to TensorBoard's where the recipe asks for it."""
        self.run.log(record | {"seconds": self._seconds()})
        if self.board is not None:
            parts = {**record, **record.get("losses", {}), **record.get("validation", {})}
            for name, value in parts.items():
                if isinstance(value, float):
                    self.board.add_scalar(name, value, self.learner.step)

    def _report(self, losses: dict[str, float], pace: Pace) -> None:
        if not self.fabric.is_global_zero:
            return
        step, config = self.learner.step, self.config
        pace.note(losses)
        if step % config.log_every == 0:
            parts = pace.means()
            record: dict[str, Any] = {"step": step, "loss": parts.pop("loss")}
            record |= {"learning_rate": parts.pop("learning_rate"), "losses": parts}
            images = config.log_every * self.learner.batch * self.fabric.world_size
            self._record(record | pace.since(images))
        if step % config.validate_every == 0 or step == config.steps:
            self._validate()
            pace.pause()

    def _validate(self) -> None:
        order = Order(
            self.corpus.train, self.config.planes, self.learner.patch, self.config.seed + 1
        )
        numbers = range(0, SETTLING * self.learner.batch, self.learner.batch)
        self.learner.settle_statistics(order.batch(n, self.learner.batch) for n in numbers)
        sheet = self.run.previews / f"{self.learner.step:07}.png"
        scores = validate(self.learner, self.corpus.validation, self.config, sheet)
        best = scores["error"] < self.learner.best
        self.learner.best = min(scores["error"], self.learner.best)
        save_models(self.run, self.learner, self.corpus, scores, best=best)
        save_state(self.run, self.learner)
        self._record({"step": self.learner.step, "validation": scores, "best": best})
        log.info("step %d of %d: %s", self.learner.step, self.config.steps, scores)

    def _seconds(self) -> float:
        return round(time.perf_counter() - self.started, 2)


def _board(run: TrainingRun) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise RecipeError(
            "The recipe asks for TensorBoard files, but TensorBoard is not installed; run pip "
            "install tensorboard, or set tensorboard = false."
        ) from None
    return SummaryWriter(run.folder / "tensorboard")


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in text for w in words)
