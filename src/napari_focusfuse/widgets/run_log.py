"""A run's log as it grows: only new bytes are read, at most a bounded number at a time."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.training_config import RecipeError
from napari_focusfuse.training_run import TrainingRun, parse_record

READ_BYTES = 1 << 17
"""Most bytes read in one go: about 3 ms of parsing, so that the window never waits."""

POINTS = 1000
"""Points of a curve that are drawn; more cannot be told apart in a dock."""

_RATE_RECORDS = 20


class Curve:
    """A figure over the steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []

    def add(self, step: int, value: float) -> None:
        """Append a point."""
        self.steps.append(step)
        self.values.append(value)

    def cut(self, step: int) -> None:
        """Forget what came after a step: the run went on from there."""
        while self.steps and self.steps[-1] > step:
            self.steps.pop()
            self.values.pop()

    def points(self) -> tuple[list[int], list[float]]:
        """Return at most about :data:`POINTS` points, the last one always among them."""
        stride = max(1, len(self.steps) // POINTS)
        first = (len(self.steps) - 1) % stride if self.steps else 0
        return self.steps[first::stride], self.values[first::stride]


class RunLog:
    """What a run has written so far.

    Parameters
    ----------
    run
        Its folder.

    Raises
    ------
    RecipeError
        If there is no run in it.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.config = run.config()
        self.score_name, self.score_title = {
            "fuse": ("ssim", "SSIM"),
            "segment": ("iou", "IoU"),
            "choose": ("accuracy", "accuracy"),
        }[self.config.task]
        self.loss, self.score = Curve(), Curve()
        self.input_score: float | None = None
        """The score of doing nothing, where the run knows it."""
        self.step = 0
        self.event = self.text = ""
        """The last event and what it said."""
        self.sessions = 0
        """How often a trainer took the run up."""
        self.images_per_s: float | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RATE_RECORDS)
        self._position = 0

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.steps

    def read_on(self) -> bool:
        """Read what is new, a bounded part of it; return whether there was anything."""
        try:
            with self.run.log_file.open("rb") as file:
                file.seek(self._position)
                found = file.read(READ_BYTES)
        except OSError:  # not there yet, or gone for a moment on a network drive
            return False
        whole = found[: found.rfind(b"\n") + 1]
        if not whole and len(found) == READ_BYTES:
            whole = found  # no record is that long: skip the damage
        self._position += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines(keepends=True):
            record = parse_record(line)
            if record is not None:
                self._take(record)
        return bool(whole)

    def seconds_per_step(self) -> float | None:
        """Return the pace of the last records, validations included; None: not known yet."""
        if len(self._recent) < 2:
            return None
        (first, began), (last, ended) = self._recent[0], self._recent[-1]
        return (ended - began) / (last - first) if last > first and ended > began else None

    def seconds_left(self) -> float | None:
        """Return about how long the rest takes, or None as long as nobody knows."""
        pace = self.seconds_per_step()
        return None if pace is None else max(0, self.steps - self.step) * pace

    def preview_steps(self) -> list[int]:
        """Return the steps at which a sheet of pictures was written, the oldest first."""
        return self.score.steps

    def preview(self, step: int) -> Path:
        """Return the file of a sheet of pictures."""
        return self.run.previews / f"{step:07}.png"

    def _take(self, record: dict[str, Any]) -> None:
        try:
            self.step = int(record.get("step", self.step))
            if "event" in record:
                self._take_event(str(record["event"]), str(record.get("text", "")))
            elif "validation" in record:
                scores = record["validation"]
                self.score.add(self.step, float(scores[self.score_name]))
                self.input_score = scores.get("input_ssim", self.input_score)
            elif "loss" in record:
                self.loss.add(self.step, float(record["loss"]))
                self.images_per_s = record.get("images_per_s", self.images_per_s)
                self._recent.append((self.step, float(record["seconds"])))
        except (KeyError, TypeError, ValueError):
            pass  # a record of another version: the others still tell enough

    def _take_event(self, event: str, text: str) -> None:
        self.event, self.text = event, text
        if event in ("started", "resumed"):
            self.sessions += 1
            self._recent.clear()
            for curve in (self.loss, self.score):
                curve.cut(self.step)


def running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (N,) values averaged over their neighbours, a tenth of all of them at most."""
    reach = len(values) // 20
    if reach == 0:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, stop = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: npt.NDArray[np.float64] = (sums[stop] - sums[first]) / (stop - first)
    return means


def log_ticks(lowest: float, highest: float) -> list[float]:
    """Return one to four round values for a logarithmic axis between two positive ones."""
    exponents = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        values = [d * 10.0**e for e in exponents for d in digits]
        within = [value for value in values if lowest <= value <= highest]
        if 2 <= len(within) <= 4:
            return within
    if len(within) > 4:
        return within[:: math.ceil(len(within) / 4)]
    middle = math.sqrt(lowest * highest)
    return within or [float(f"{middle:.1g}")]


def describe_run(log: RunLog) -> str:
    """Return how far a run is, in one line."""
    parts = [f"step {log.step:,} of {log.steps:,}"]
    if log.score.values:
        score = f"{log.score_title} {log.score.values[-1]:.4f}"
        if log.input_score is not None:
            score += f" (untouched {log.input_score:.4f})"
        parts.append(score)
    if log.images_per_s is not None:
        parts.append(f"{log.images_per_s:.3g} patches/s")
    return " · ".join(parts)


def opened_log(run: TrainingRun) -> RunLog | None:
    """Return a run's log, or None where the folder holds no run that can be read."""
    try:
        return RunLog(run)
    except RecipeError:
        return None
