"""How a run gets on: mean losses, images a second, the share of time spent waiting for them."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch

from .patches import Feeder


class Pace:
    """What happened since the last line of the log: mean losses, images a second, waiting."""

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder
        self._losses: list[dict[str, float]] = []
        self.pause()

    def note(self, losses: dict[str, float]) -> None:
        """Take down a step's losses."""
        self._losses.append(losses)

    def means(self) -> dict[str, float]:
        """Return the means of the losses taken down, those that are not finite left out."""
        names = self._losses[-1]
        found = {name: [step[name] for step in self._losses if name in step] for name in names}
        self._losses = []
        return {
            name: _mean([v for v in values if math.isfinite(v)]) for name, values in found.items()
        }

    def pause(self) -> None:
        """Start anew: what happened until now does not count."""
        self._from, self._waited = time.perf_counter(), self._feeder.seconds_waited

    def since(self, images: int) -> dict[str, Any]:
        """Return the figures since the last call, and start anew."""
        seconds = time.perf_counter() - self._from
        waiting = (self._feeder.seconds_waited - self._waited) / seconds
        self.pause()
        return {
            "images_per_s": round(images / seconds, 3),
            "waiting": round(waiting, 4),
            "memory_mb": _memory_mb(),
        }


def _memory_mb() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() >> 20)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak >> 20 if sys.platform == "darwin" else peak >> 10)


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else 0.0
