"""Tables 1 to 3 of the paper, and what belongs beside them, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from napari_focusfuse.metrics import VARIANTS

from .candidates import Candidate
from .summary import MASK_SCORES, Condition, Spread, pairs, seed_groups

COLUMNS = ("SSIM-paper", "CC", "Q_MI", "PSNR")
"""Metrics of the printed tables; the CSV has all."""
PAPER_NAMES = {"wavelet": "WT", "pyramid-plain": "LPP", "dtcwt-plain": "DTCWT", "liu-cnn": "CNN"}
"""What the paper's Tables 1 and 2 call methods that we call otherwise."""
Record = tuple[str, str, str, str, float, float, int]
_RECORD = ("table", "condition", "row", "metric", "mean", "sd", "n")


@dataclass(frozen=True)
class Table:
    """A table as it is printed."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Cells, the row's name first."""
    records: tuple[Record, ...]
    """The numbers behind it and beside it, one a line of the CSV."""

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|---" * len(self.columns) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, ""])


def tables(condition: Condition, candidates: Sequence[Candidate]) -> list[Table]:
    """Return all tables of one condition that have rows."""
    name = condition.name
    found = [
        _scores(condition, f"Table 1. One plane, {name}", "1", several=False),
        _scores(condition, f"Table 2. Three planes, {name}", "2", several=True),
        _blur_model(condition, candidates),
        _seeds(condition, candidates),
        _whole(condition),
        _masks(condition),
        _agreement(condition),
    ]
    return [table for table in found if table.rows]


def _scores(condition: Condition, title: str, number: str, *, several: bool) -> Table:
    rows, records = [], []
    for row in condition.of_planes(several):
        spreads = {metric: condition.spread(row.name, metric) for metric in VARIANTS}
        cells = (cell(spreads[metric], metric) for metric in COLUMNS)
        rows.append((in_paper(row.name), *cells))
        records += list(_records(number, condition.name, row.name, spreads))
    return Table(title, ("method", *COLUMNS), tuple(rows), tuple(records))


def in_paper(name: str) -> str:
    """Return a row's name, followed by the paper's if that is another."""
    # Several seeds of one recipe are told apart by what follows its name.
    known = (paper for ours, paper in PAPER_NAMES.items() if name.split("-seed")[0] == ours)
    paper = next(known, None)
    return name if paper is None else f"{name} ({paper})"


def _blur_model(condition: Condition, candidates: Sequence[Candidate]) -> Table:
    """Return Table 3: generators alike but for the blur model, and the difference per image."""
    rows, records = [], []
    for without, with_masks in pairs(candidates):
        both = [without.label, with_masks.label]
        if not all(label in condition.images for label in both):
            continue
        named = {f"{both[0]}, without": _column(condition, both[0])}
        named[f"{both[1]}, with"] = _column(condition, both[1])
        named[f"{both[1]} minus {both[0]}"] = {
            metric: _differences(condition, both[1], both[0], metric) for metric in VARIANTS
        }
        for label, spreads in named.items():
            rows.append((label, *(cell(spreads[metric], metric) for metric in COLUMNS)))
            records += list(_records("3", condition.name, label, spreads))
    title = f"Table 3. Without and with blur model, {condition.name}"
    return Table(title, ("generator", *COLUMNS), tuple(rows), tuple(records))


def _column(condition: Condition, label: str) -> dict[str, Spread]:
    return {metric: condition.spread(label, metric) for metric in VARIANTS}


def _differences(condition: Condition, first: str, second: str, metric: str) -> Spread:
    both = zip(condition.images[first], condition.images[second], strict=True)
    return Spread.of(one[metric] - two[metric] for one, two in both)


def _seeds(condition: Condition, candidates: Sequence[Candidate]) -> Table:
    """Return the mean of several seeds of a recipe, and how far the seeds' means scatter."""
    rows, records = [], []
    for name, group in seed_groups(candidates).items():
        labels = [c.label for c in group if c.label in condition.images]
        if not labels:
            continue
        spreads = {
            metric: Spread.of(condition.spread(label, metric).mean for label in labels)
            for metric in VARIANTS
        }
        title = f"{name}, {len(labels)} seeds"
        rows.append((title, *(cell(spreads[metric], metric) for metric in COLUMNS)))
        records += list(_records("seeds", condition.name, title, spreads))
    title = f"Spread over training seeds, {condition.name}"
    return Table(title, ("recipe", *COLUMNS), tuple(rows), tuple(records))


def _whole(condition: Condition) -> Table:
    rows, records = [], []
    for name, scores in condition.whole.items():
        spreads = {metric: Spread.of(stack[metric] for stack in scores) for metric in VARIANTS}
        rows.append((name, *(cell(spreads[metric], metric) for metric in VARIANTS)))
        records += list(_records("whole", condition.name, name, spreads))
    title = f"Whole stacks, every metric, {condition.name}"
    return Table(title, ("method", *VARIANTS), tuple(rows), tuple(records))


def _masks(condition: Condition) -> Table:
    rows, records = [], []
    for name, scores in condition.mask_scores().items():
        keys = [key for key in (*MASK_SCORES, "spearman") if key in scores]
        cells = [f"{scores[key]:.3f}" for key in keys]
        rows.append((name, *cells, *["–"] * (1 + len(MASK_SCORES) - len(keys))))
        spreads = {key: Spread(scores[key], math.nan, 1) for key in keys}
        records += list(_records("masks", condition.name, name, spreads))
    columns = ("blur mask", "IoU", "IoU of sharp", "precision", "recall", "Spearman with defocus")
    return Table(f"Blur masks, {condition.name}", columns, tuple(rows), tuple(records))


def _agreement(condition: Condition) -> Table:
    rows, records = [], []
    for name, found in condition.agreement.items():
        rows.append((name, f"{found.exact:.3f}", f"{found.within_one:.3f}"))
        shares = {"exact": found.exact, "within one": found.within_one}
        spreads = {key: Spread(value, math.nan, 1) for key, value in shares.items()}
        records += list(_records("sharpest plane", condition.name, name, spreads))
    title = f"Sharpest plane on cells, as Laplacian energy names it, {condition.name}"
    columns = ("blur mask", "same plane", "same or next")
    return Table(title, columns, tuple(rows), tuple(records))


def _records(
    table: str, condition: str, row: str, spreads: Mapping[str, Spread]
) -> Iterator[Record]:
    for metric, spread in spreads.items():
        yield table, condition, row, metric, spread.mean, spread.deviation, spread.count


def cell(spread: Spread, metric: str) -> str:
    """Return ``mean ± deviation`` with the digits the metric deserves."""
    digits = 2 if metric == "PSNR" else 4
    if math.isnan(spread.mean):
        return "–"
    if math.isinf(spread.mean):
        return "∞"
    return f"{spread.mean:.{digits}f} ± {spread.deviation:.{digits}f}"


def to_csv(tables: Sequence[Table]) -> str:
    """Return every number of some tables, one a line: :data:`_RECORD` names the columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_RECORD)
    for table in tables:
        for *words, mean, deviation, count in table.records:
            writer.writerow([*words, f"{mean:.6g}", f"{deviation:.6g}", count])
    return text.getvalue()
