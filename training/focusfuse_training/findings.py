"""All that one evaluation found, as tables, as ``scores.json``, and as a card says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .bars import Bar, bars, bars_table
from .candidates import Candidate
from .command import finite
from .error_tables import bands_table, calibration_table, error_table
from .figures import Figure, figures
from .summary import Condition, expectations
from .tables import Table, tables

Section = tuple[str, tuple[Table, ...], tuple[Figure, ...]]


@dataclass
class Findings:
    """The conditions scored so far, and what holds for all of them."""

    sharp: Mapping[str, float]
    """Model -> mean change of sharp input, in grey levels."""
    factors: Mapping[str, float]
    """Model -> factor by which its expected errors become 90 % intervals."""
    papers: Sequence[str] = ()
    """Models with the paper's generator."""
    conditions: list[Condition] = field(default_factory=list)
    _drawn: dict[str, tuple[Figure, ...]] = field(default_factory=dict)

    def bars(self) -> list[Bar]:
        """Return what the models are expected to reach, and what they do."""
        return bars(self.conditions, self.factors, self.sharp, self.papers)

    def sections(self, candidates: Sequence[Candidate], *, draw: bool) -> tuple[Section, ...]:
        """Return the bars, then the tables and figures of every condition."""
        overall = (bars_table(self.bars()), calibration_table(self.conditions, self.factors))
        found: list[Section] = [("All conditions", tuple(t for t in overall if t.rows), ())]
        for condition in self.conditions:
            if condition.name not in self._drawn:
                self._drawn[condition.name] = tuple(figures(condition)) if draw else ()
            errors = (error_table(condition), bands_table(condition))
            shown = (*tables(condition, candidates), *(table for table in errors if table.rows))
            found.append((condition.name, shown, self._drawn[condition.name]))
        return tuple(section for section in found if section[1])

    def as_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return it for ``scores.json``, each condition under its name."""
        named = {condition.name: condition.as_json() for condition in self.conditions}
        overall = {
            "about": about,
            "sharp": self.sharp,
            "bars": [bar.as_json() for bar in self.bars()],
            "calibration": self._calibration(),
        }
        tree: dict[str, Any] = finite({**overall, **named})
        return tree

    def of_model(self, label: str, command: str) -> dict[str, Any]:
        """Return what a model's card says of its scores, and of the command that prints them."""
        found: dict[str, Any] = {}
        if label in self.sharp:
            found["mean change of sharp input, grey levels"] = self.sharp[label]
        for condition in self.conditions:
            scores = condition.as_json()
            for part in ("table", "error_ratio", "masks", "agreement"):
                if label in scores[part]:
                    found[f"{part}, {condition.name}"] = scores[part][label]
        if label in self._calibration():
            found["calibration"] = self._calibration()[label]
        found["bars"] = {
            f"{bar.what}, {bar.condition}": f"{bar.value:.3f}, {bar.bounds}: "
            + ("holds" if bar.holds else "does not hold")
            for bar in self.bars()
            if bar.model == label and bar.holds is not None
        }
        return {"benchmark": finite(found), "command": command}

    def _calibration(self) -> dict[str, dict[str, Any]]:
        """Return each model's factor, and how its intervals and their ranking did where."""
        found: dict[str, dict[str, Any]] = {}
        named = {c.name: c.expectations for c in self.conditions} | expectations(self.conditions)
        for condition, tallies in named.items():
            for model, tally in tallies.items():
                factor = self.factors.get(model, math.nan)
                about = found.setdefault(model, {"factor": factor, "coverage": {}, "auroc": {}})
                about["coverage"][condition] = tally.coverage(factor) if factor > 0 else math.nan
                about["auroc"][condition] = tally.auroc()
        return found
