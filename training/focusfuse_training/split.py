"""Which slides and images train, validate and test: drawn once, then read from the run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from napari_focusfuse.slide import Region
from napari_focusfuse.training_config import RecipeError

from .squares import Parts

PARTS = ("train", "validation", "test")
_SHARE = 0.15
"""Of the slides or images, for validation, and as many for the test."""


@dataclass
class Split:
    """Names of slides and images by their use."""

    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    regions: dict[str, Parts] = field(default_factory=dict)
    """Slide -> part -> its region, where one slide serves several parts."""

    @classmethod
    def read(cls, path: Path) -> Split | None:
        """Return the split of a run, or None if it was never drawn.

        Raises
        ------
        RecipeError
            If the file is damaged.
        """
        if not path.exists():
            return None
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            regions = {
                name: {part: Region(*map(int, area)) for part, area in parts.items()}
                for name, parts in table.get("regions", {}).items()
            }
            train, validation, test = ([str(name) for name in table[part]] for part in PARTS)
            return cls(train, validation, test, regions)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecipeError(
                f"{path} does not say which slides train and which validate ({error}); delete it, "
                "and it is drawn again."
            ) from None

    def write(self, path: Path) -> None:
        """Write the split, whole or not at all."""
        table = asdict(self)
        table["regions"] = {
            name: {part: [a.y, a.x, a.height, a.width] for part, a in parts.items()}
            for name, parts in self.regions.items()
        }
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps(table, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, path)

    def part_of(self, name: str) -> str:
        """Return the part all of a slide or image is in; empty if it is divided or unknown."""
        if name in self.regions:
            return ""
        return next((part for part in PARTS if name in getattr(self, part)), "")

    def add(self, name: str, parts: Sequence[str]) -> None:
        """Take up a slide or image that serves some parts."""
        for part in parts:
            getattr(self, part).append(name)


def draw(names: Sequence[str], seed: int, fixed: Mapping[str, str] | None = None) -> dict[str, str]:
    """Draw the part of each slide or image.

    Two are divided into training and validation, more also give a test.  One alone has to serve
    all parts, and so has the first to train if every part was fixed and none validates.

    Parameters
    ----------
    fixed
        Parts that are given; empty ones are drawn.

    Returns
    -------
    Name -> part, empty where regions of one must be held out
    """
    parts = {name: (fixed or {}).get(name, "") for name in names}
    free = [name for name in names if not parts[name]]
    order = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    wanted = max(1, round(_SHARE * len(names)))
    for part, least in (("validation", 2), ("test", 3)):
        lacking = wanted - list(parts.values()).count(part) if len(names) >= least else 0
        # One must be left to train.
        spare = len(order) - ("train" not in parts.values())
        for _ in range(min(lacking, spare)):
            parts[order.pop()] = part
    parts |= dict.fromkeys(order, "train")
    trains = [name for name in names if parts[name] == "train"]
    if trains and "validation" not in parts.values():
        parts[trains[0]] = ""
    return parts


def distinct(paths: Sequence[Path]) -> list[str]:
    """Return the files' names, with as many folders before them as tell them apart."""
    names = [path.name for path in paths]
    return [
        name if names.count(name) == 1 else path.as_posix()
        for name, path in zip(names, paths, strict=True)
    ]
