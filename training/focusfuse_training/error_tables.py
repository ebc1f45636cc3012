"""Tables of errors: beside what has to be beaten, band by band, and beside what was expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from napari_focusfuse.error_bands import BANDS

from .calibration import LARGE
from .summary import Condition, Spread, expectations
from .tables import Record, Table

_MEANS = (*BANDS, "overshoot", "tone, RMS")


def error_table(condition: Condition) -> Table:
    """Return each row's error beside that of its rival, see :meth:`Condition.rival`."""
    rows: list[tuple[str, ...]] = []
    records: list[Record] = []
    for row in (row for row in condition.rows if row.name in condition.whole):
        values = {"1 - SSIM-paper": condition.error(row.name)}
        values["over the rival's"] = condition.error_ratio(row)
        if row.planes > 1 and "evidence" in condition.whole:
            values["over evidence's"] = condition.error_ratio(row, "evidence")
        rival = condition.rival(row.planes)
        rows.append((row.name, rival, *(number(values.get(head), 4) for head in _ERRORS)))
        records += [_record("errors", condition.name, row.name, *item) for item in values.items()]
    title = f"Error beside what has to be beaten, {condition.name}"
    return Table(title, ("method", "rival", *_ERRORS), tuple(rows), tuple(records))


_ERRORS = ("1 - SSIM-paper", "over the rival's", "over evidence's")


def bands_table(condition: Condition) -> Table:
    """Return each row's error by size of detail, over its rival's in brackets, and its tone."""
    rows: list[tuple[str, ...]] = []
    records: list[Record] = []
    for row in (row for row in condition.rows if row.name in condition.whole):
        own, rivals = _means(condition, row.name), _means(condition, condition.rival(row.planes))
        largest = max(scores["tone, largest"] for scores in condition.whole[row.name])
        cells = [number(own[key], 2) for key in _MEANS]
        for place, key in enumerate(BANDS):
            ratio = own[key] / rivals[key] if rivals[key] else math.nan
            cells[place] += f" ({number(ratio, 3)})"
        rows.append((row.name, str(row.planes), *cells, number(largest, 2)))
        values = {**own, "tone, largest": largest}
        records += [_record("bands", condition.name, row.name, *item) for item in values.items()]
    title = f"Error by size of detail in grey levels (over the rival's), {condition.name}"
    columns = ("method", "planes", *_MEANS, "tone, largest")
    return Table(title, columns, tuple(rows), tuple(records))


def calibration_table(conditions: Sequence[Condition], factors: Mapping[str, float]) -> Table:
    """Return how often 90 % intervals hold the truth, and whether large errors are foreseen."""
    rows: list[tuple[str, ...]] = []
    records: list[Record] = []
    named = {c.name: c.expectations for c in conditions} | expectations(conditions)
    for name, tallies in named.items():
        for model, tally in tallies.items():
            values = {"coverage": math.nan, "AUROC": tally.auroc()}
            if model in factors:
                values["coverage"] = tally.coverage(factors[model])
            cells = (number(value, 3) for value in values.values())
            rows.append((model, name, number(factors.get(model), 3), *cells))
            records += [_record("calibration", name, model, *item) for item in values.items()]
    title = f"Expected errors: 90 % intervals, and errors over {LARGE:g} grey levels foreseen"
    columns = ("model", "condition", "factor", "coverage", "AUROC")
    return Table(title, columns, tuple(sorted(rows)), tuple(records))


def _means(condition: Condition, row: str) -> dict[str, float]:
    return {key: Spread.of(s[key] for s in condition.whole[row]).mean for key in _MEANS}


def number(value: float | None, digits: int) -> str:
    """Return a value for a cell; a dash for none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _record(table: str, condition: str, row: str, metric: str, value: float) -> Record:
    return table, condition, row, metric, value, math.nan, 1
