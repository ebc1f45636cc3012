"""From the scores of single stacks to means, spreads, and what is compared with what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_focusfuse.slide import FocusFuseError, UInt8Image

from .blur_ranks import Agreement
from .calibration import ErrorTally
from .candidates import Candidate
from .masks import Confusion
from .scoring import LAYER0, LAYER0_OF_THREE, SELECTIONS, Entry, Result, Scores
from .task import Sample

MASK_SCORES = ("iou", "iou_sharp", "precision", "recall")
SAME = 1e-3
"""How far the untouched layer's scores may differ between machines that round light differently."""


class OtherImagesError(FocusFuseError, ValueError):
    """Scores to stand beside each other were taken on different images."""


@dataclass(frozen=True)
class Spread:
    """A mean over images and how far they scatter."""

    mean: float
    deviation: float
    """Sample standard deviation; 0 of one image."""
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Sum values up; those that are not defined (CC of a flat image) are left out."""
        defined = np.array([value for value in values if not math.isnan(value)], dtype=float)
        if defined.size == 0:
            return cls(math.nan, math.nan, 0)
        if not np.isfinite(defined).all():  # PSNR of equal images
            return cls(math.inf, math.nan, defined.size)
        deviation = float(defined.std(ddof=1)) if defined.size > 1 else 0.0
        return cls(float(defined.mean()), deviation, defined.size)


@dataclass(frozen=True)
class Condition:
    """All scores under one condition, such as a depth."""

    name: str
    rows: tuple[Entry, ...]
    """What was scored, in the order of the tables."""
    whole: Mapping[str, Sequence[Scores]]
    """Row -> scores of each whole stack."""
    images: Mapping[str, Sequence[Scores]]
    """Row -> scores of each square."""
    masks: Mapping[str, Confusion]
    expectations: Mapping[str, ErrorTally] = field(default_factory=dict)
    """Model -> how its errors compare with those it expected."""
    ranks: Mapping[str, float] = field(default_factory=dict)
    """Blur mask -> Spearman's correlation with the distance from focus, mean of the stacks."""
    agreement: Mapping[str, Agreement] = field(default_factory=dict)
    """Blur mask -> how far the plane it calls sharpest is off, of a real stack."""
    unseen: str = ""
    """What the specimens are if they are of another kind than models learn from."""
    depth_um: float = 0.0
    """Heights are spread over plus and minus this; 0: unknown."""
    shown: tuple[Mapping[str, Any], ...] = ()
    """The pictures of :attr:`Result.shown`."""

    @classmethod
    def of(
        cls,
        name: str,
        entries: Sequence[Entry],
        results: Sequence[Result],
        *,
        unseen: str = "",
        depth_um: float = 0.0,
    ) -> Condition:
        """Sort results by row; a row that some stack does not allow is left out."""
        squares = [square for result in results for square in result.squares]
        rows = tuple(row for row in entries if all(row.name in r.whole for r in results))
        first, blurs = results[0].blur, [result.blur for result in results]
        return cls(
            name,
            rows,
            {row.name: [result.whole[row.name] for result in results] for row in rows},
            {row.name: [square[row.name] for square in squares] for row in rows},
            {n: sum((b.masks[n] for b in blurs), Confusion()) for n in first.masks},
            total_expectations(results),
            {n: Spread.of(b.ranks[n] for b in blurs).mean for n in first.ranks},
            {n: sum((b.agreement[n] for b in blurs), Agreement()) for n in first.agreement},
            unseen,
            depth_um,
            tuple(pictures for result in results for pictures in result.shown),
        )

    def beside(self, earlier: Mapping[str, Any]) -> Condition:
        """Return it with the models of an earlier evaluation on the same images.

        A model that was scored now as well keeps its score of now.

        Parameters
        ----------
        earlier
            The condition in an earlier ``scores.json``, see :meth:`as_json`.

        Raises
        ------
        OtherImagesError
            If the untouched layer scored otherwise then, image by image: the images were others.
        """
        now = {
            metric: [scores[metric] for scores in self.images[LAYER0]]
            for metric in earlier["images"][LAYER0]
        }
        then = earlier["images"][LAYER0]
        if any(
            len(values) != len(then[metric]) or not np.allclose(values, then[metric], rtol=SAME)
            for metric, values in now.items()
        ):
            raise OtherImagesError(
                f"The earlier scores are of other images than those of {self.name}; evaluate with "
                "the same --data, --depths and --patches."
            )
        known = earlier.get("models", earlier["error_ratio"])
        models = [name for name in known if name not in self.images]
        return replace(
            self,
            rows=(*self.rows, *(Entry(n, earlier["planes"][n], _gone) for n in models)),
            images={
                **self.images,
                **{
                    name: [
                        dict(zip(earlier["images"][name], values, strict=True))
                        for values in zip(*earlier["images"][name].values(), strict=True)
                    ]
                    for name in models
                },
            },
        )

    def of_planes(self, several: bool) -> tuple[Entry, ...]:
        """Return the rows of methods that are given several planes, or one."""
        return tuple(row for row in self.rows if (row.planes > 1) == several)

    def spread(self, row: str, metric: str) -> Spread:
        """Return mean and scatter of a row over the squares."""
        return Spread.of(scores[metric] for scores in self.images[row])

    def table(self) -> dict[str, Scores]:
        """Return the mean scores of whole stacks."""
        return {
            name: {key: Spread.of(s[key] for s in stacks).mean for key in stacks[0]}
            for name, stacks in self.whole.items()
        }

    def rival(self, planes: int) -> str:
        """Return the row that a model of so many planes has to beat.

        With one plane that is its own input; with several the best of :data:`SELECTIONS` here, or
        the untouched layer where that is better.
        """
        if planes == 1:
            return LAYER0
        known = [name for name in (*SELECTIONS, LAYER0_OF_THREE) if name in self.whole]
        return min(known, key=lambda name: self.error(name))

    def error(self, row: str) -> float:
        """Return 1 - SSIM-paper of a row, mean of the whole stacks."""
        return 1 - Spread.of(scores["SSIM-paper"] for scores in self.whole[row]).mean

    def error_ratio(self, row: Entry, rival: str | None = None) -> float:
        """Return the error of a row over its rival's; None: :meth:`rival`."""
        least = self.error(self.rival(row.planes) if rival is None else rival)
        return self.error(row.name) / least if least else math.inf

    def models(self) -> list[Entry]:
        """Return the rows of models that were scored now."""
        return [row for row in self.rows if row.kind == "model" and row.name in self.whole]

    def error_ratios(self) -> dict[str, float]:
        """Return the :meth:`error_ratio` of each model."""
        return {row.name: self.error_ratio(row) for row in self.models()}

    def mask_scores(self) -> dict[str, dict[str, float]]:
        """Return the scores of each blur mask over all stacks."""
        return {
            name: {
                **{key: float(getattr(count, key)) for key in MASK_SCORES},
                **({"spearman": self.ranks[name]} if name in self.ranks else {}),
            }
            for name, count in self.masks.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Return it for ``scores.json``."""
        metrics = next(iter(self.images.values()), [{}])[0]
        return {
            "table": self.table(),
            "error_ratio": self.error_ratios(),
            "rivals": {n: self.rival(n) for n in sorted({r.planes for r in self.models()})},
            "masks": self.mask_scores(),
            "agreement": {
                name: {"exact": found.exact, "within one plane": found.within_one}
                for name, found in self.agreement.items()
            },
            "planes": {row.name: row.planes for row in self.rows},
            "models": [row.name for row in self.rows if row.kind == "model"],
            "images": {
                name: {metric: [scores[metric] for scores in images] for metric in metrics}
                for name, images in self.images.items()
            },
        }


def _gone(sample: Sample) -> UInt8Image:
    raise ValueError("the row was scored earlier; its model is not here")


def total_expectations(results: Iterable[Result]) -> dict[str, ErrorTally]:
    """Return each model's tally of errors over all stacks."""
    total: dict[str, ErrorTally] = {}
    for result in results:
        for name, tally in result.expectations.items():
            total[name] = total.get(name, ErrorTally()) + tally
    return total


TEST = "test fields, all depths"
"""What the specimens are called that are like those models learn from."""


def expectations(conditions: Sequence[Condition]) -> dict[str, dict[str, ErrorTally]]:
    """Return the tallies of errors of each kind of specimen, over its depths, by model."""
    found: dict[str, dict[str, ErrorTally]] = {}
    for condition in conditions:
        depths = ", all depths" if condition.depth_um else ""
        total = found.setdefault(f"{condition.unseen}{depths}" if condition.unseen else TEST, {})
        for name, tally in condition.expectations.items():
            total[name] = total.get(name, ErrorTally()) + tally
    return found


def pairs(candidates: Sequence[Candidate]) -> list[tuple[Candidate, Candidate]]:
    """Return (without, with blur model) of generators that otherwise are alike, by their cards."""
    found = []
    fusing = [candidate for candidate in candidates if not candidate.marks_blur]
    for with_masks in (candidate for candidate in fusing if candidate.card.blur_model):
        for without in (candidate for candidate in fusing if not candidate.card.blur_model):
            if _likeness(without) == _likeness(with_masks):
                found.append((without, with_masks))
    return found


def _likeness(candidate: Candidate) -> tuple[object, ...]:
    card = candidate.card
    return card.architecture, card.plane_offsets, candidate.width, candidate.seed


def seed_groups(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Return the generators that several seeds were trained of, by their name."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if not candidate.marks_blur:
            groups.setdefault(candidate.card.name, []).append(candidate)
    return {
        name: group
        for name, group in groups.items()
        if len({candidate.seed for candidate in group}) > 1
    }
