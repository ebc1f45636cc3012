"""What the models are expected to reach, and whether they do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .blur_scores import ALL_BLURRED, LAPLACIAN, MIDDLE, without_place
from .calibration import COVERAGE, LARGE
from .restoration import RESTORATIONS
from .scoring import OWN_TONE, TONE
from .summary import TEST, Condition, expectations
from .tables import Table

THREE_PLANES = {4.0: 1.0, 8.0: 0.70, 12.0: 0.80}
"""Depth in um -> largest error over that of the best selection, for models of several planes."""
ONE_PLANE = {8.0: 0.80}
"""The same over the error of the input, for models of one plane; 1.0 at all other depths."""
KEPT = 0.70
"""Share of its gain that a model keeps on specimens of another kind."""
TONE_LEVELS = 0.5
"""Grey levels by which tone may change."""
CHANGE = 1.0
"""Grey levels by which sharp input may change on average."""
COVERED = (COVERAGE - 0.02, COVERAGE + 0.02)
AUROC, IOU, SPEARMAN = 0.85, 0.85, 0.85


@dataclass(frozen=True)
class Bar:
    """One figure, and between which bounds it should lie."""

    what: str
    model: str
    condition: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def holds(self) -> bool | None:
        """Whether the figure lies within its bounds; None if it has none, or is no number."""
        if math.isnan(self.value) or (math.isinf(self.low) and math.isinf(self.high)):
            return None
        return self.low <= self.value <= self.high

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if math.isinf(self.low) and math.isinf(self.high):
            return "–"
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return (
            f"at least {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"
        )

    def as_json(self) -> dict[str, str | float | bool | None]:
        """Return it as one record of a JSON file."""
        return {
            "model": self.model,
            "what": self.what,
            "condition": self.condition,
            "measured": self.value,
            "bar": self.bounds,
            "holds": self.holds,
        }


def bars(
    conditions: Sequence[Condition],
    factors: Mapping[str, float],
    sharp: Mapping[str, float],
    papers: Sequence[str] = (),
) -> list[Bar]:
    """Return every bar, model by model.

    Parameters
    ----------
    factors
        Model -> factor of its intervals, found on the calibration part.
    sharp
        Model -> mean change of sharp input, in grey levels.
    papers
        Models with the paper's generator, to which the others are compared.
    """
    found = [bar for condition in conditions for bar in _of_condition(condition, papers)]
    found += _kept(conditions)
    found += _honest(conditions, factors)
    what = "mean change of sharp input, grey levels"
    found += [Bar(what, name, "in focus", change, high=CHANGE) for name, change in sharp.items()]
    return sorted(found, key=lambda bar: bar.model)


def bars_table(found: Sequence[Bar]) -> Table:
    """Return the bars as a table."""
    said = {True: "yes", False: "NO", None: "–"}
    rows = tuple(
        (bar.model, bar.what, bar.condition, _number(bar.value), bar.bounds, said[bar.holds])
        for bar in found
    )
    records = tuple(
        ("bars", bar.condition, bar.model, bar.what, bar.value, math.nan, 1) for bar in found
    )
    columns = ("model", "what", "condition", "measured", "bar", "holds")
    return Table("Bars", columns, rows, records)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _of_condition(condition: Condition, papers: Sequence[str]) -> Iterator[Bar]:
    for row in condition.models():
        name, rival = row.name, condition.rival(row.planes)
        ratio = condition.error_ratio(row)
        at_most = math.inf
        if row.planes == 1:
            at_most = ONE_PLANE.get(condition.depth_um, 1.0)
        elif condition.depth_um in THREE_PLANES:
            at_most = THREE_PLANES[condition.depth_um]
        yield Bar(f"1 - SSIM over that of {rival}", name, condition.name, ratio, high=at_most)
        if row.planes == 1:
            best = min(RESTORATIONS, key=condition.error)
            what = f"1 - SSIM over that of {best}, the best classical restoration"
            yield Bar(what, name, condition.name, condition.error_ratio(row, best), high=1.0)
        elif "evidence" in condition.whole:
            over = condition.error_ratio(row, "evidence")
            yield Bar("1 - SSIM over that of evidence", name, condition.name, over)
        for paper in (r for r in condition.models() if r.name in papers and r.planes == row.planes):
            if name not in papers:
                over = condition.error_ratio(row, paper.name)
                what = f"1 - SSIM over that of {paper.name}"
                yield Bar(what, name, condition.name, over, high=1.0)
        own = OWN_TONE if f"{OWN_TONE}, largest" in condition.whole[name][0] else TONE
        largest = max(scores[f"{own}, largest"] for scores in condition.whole[name])
        of_what = "its input" if row.planes == 1 else "its blend of planes"
        what = f"largest change of tone from {of_what}, grey levels"
        yield Bar(what, name, condition.name, largest, high=TONE_LEVELS)
    yield from _of_masks(condition)


def _of_masks(condition: Condition) -> Iterator[Bar]:
    for mask in (mask for mask in condition.masks if not _is_control(mask)):
        model, where = without_place(mask)
        name = condition.name + where
        overlap = condition.masks[mask].iou
        yield Bar("IoU", model, name, overlap, low=IOU)
        for control in (ALL_BLURRED, LAPLACIAN):
            if control + where in condition.masks:
                more = overlap - condition.masks[control + where].iou
                yield Bar(f"IoU less that of {control}", model, name, more, low=0.0)
        if mask in condition.ranks:
            rank = condition.ranks[mask]
            more = rank - condition.ranks[LAPLACIAN + where]
            yield Bar("Spearman with defocus", model, name, rank, low=SPEARMAN)
            yield Bar(f"Spearman less that of {LAPLACIAN}", model, name, more, low=0.0)
    for model in (model for model in condition.agreement if not _is_control(model)):
        found = condition.agreement[model]
        yield Bar("names the sharpest plane", model, condition.name, found.exact)
        yield Bar("names it or a neighbour", model, condition.name, found.within_one)


def _is_control(mask: str) -> bool:
    return without_place(mask)[0] in (LAPLACIAN, ALL_BLURRED, MIDDLE)


def _kept(conditions: Sequence[Condition]) -> Iterator[Bar]:
    """Yield how much of the gain remains where specimens are of another kind, depth by depth."""
    seen = {c.depth_um: c for c in conditions if not c.unseen and c.depth_um}
    for condition in conditions:
        home = seen.get(condition.depth_um)
        if home is None or not condition.unseen:
            continue
        for row in condition.models():
            gain = 1 - home.error_ratio(row)
            share = (1 - condition.error_ratio(row)) / gain if gain > 0 else math.nan
            yield Bar("share of the gain kept", row.name, condition.name, share, low=KEPT)


def _honest(conditions: Sequence[Condition], factors: Mapping[str, float]) -> Iterator[Bar]:
    """Yield coverage and ranking of expected errors, over all depths of each kind of specimen."""
    for kind, total in expectations(conditions).items():
        low, high = COVERED if kind == TEST else (-math.inf, math.inf)
        at_least = AUROC if kind == TEST else -math.inf
        for name, tally in total.items():
            if name in factors:
                covered = tally.coverage(factors[name])
                yield Bar("coverage of 90 % intervals", name, kind, covered, low, high)
            what = f"AUROC of the expected error for errors over {LARGE:g}"
            yield Bar(what, name, kind, tally.auroc(), low=at_least)
