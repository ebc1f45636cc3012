"""What an audit found, as tables, and the bars of which each method keeps some."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bars import Bar
from .benchmark_tables import number
from .hallucination import TRUTH_OF, PlantedResult, RowResult
from .harmless import MADE, Change, HarmlessResult
from .scoring import LAYER0, LAYER0_OF_THREE
from .tables import Table

DETECTION = 0.98
"""Least precision and recall over what the truth image allows."""
AREA = 0.02
PSNR, MEAN = 42.0, 1.0
"""Of sharp pictures, dB and grey levels."""
CHROMATIN_ERROR = 1.0
"""Most error of chromatin over that of the untouched layer: a method must not make it worse."""
SMOOTH = 1.1
"""Most contrast of smooth chromatin over the truth's: a tenth is what its own noise varies."""
ROUNDING = 1.0
"""Grey levels by which a constant may change: one step of 8 bits."""
NEW = 4.0
"""Grey levels by which a value may leave the range of the input around it: 1.5 % of white, less
than the grain of the simulated camera (2.9 on white), so nothing to be seen."""
MIDDLE = 0.5
"""RMS change of detail of 1.5 to 8 px, grey levels: half the step of 8 bits."""
FINE = (0.9, 1.1)
"""Contrast of noise over the input's: neither denoised nor amplified to be seen."""
_KINDS = ("usual", "smooth", "coarse")
_NUCLEI_HEADS = (
    "picture",
    "nuclei",
    "false alarms",
    "of them in cells without",
    "precision",
    "recall",
    "precision over truth's",
    "recall over truth's",
    "area bias",
    "tiles flagged",
)
_CHROMATIN_HEADS = (
    "picture",
    *(f"contrast over truth's, {kind}" for kind in _KINDS),
    *(f"error over layer 0's, {kind}" for kind in _KINDS),
)
_SHARP_HEADS = (
    "method",
    "given",
    "pictures",
    "PSNR, worst",
    "PSNR, mean",
    "mean change, worst",
    "mean change",
    "largest change",
    "beyond local range",
    "middle detail, RMS",
)
_MADE_HEADS = (
    "method",
    "given",
    "input",
    "mean change",
    "largest change",
    "beyond local range",
    "middle detail, RMS",
    "fine contrast over input's",
)


@dataclass(frozen=True)
class Audit:
    """All that was found of some methods."""

    methods: Mapping[str, int]
    """The methods that are judged -> how many planes each is given."""
    planted: Sequence[PlantedResult]
    harmless: Sequence[HarmlessResult]

    def nuclei(self) -> dict[float, dict[str, RowResult]]:
        """Return what was found at each depth, by row: the truths first."""
        found: dict[float, dict[str, RowResult]] = {}
        for result in self.planted:
            depth = found.setdefault(result.depth_um, {})
            for name, row in result.rows.items():
                depth[name] = depth.get(name, RowResult()) + row
        return found

    def changes(self, group: str | None = None) -> dict[tuple[str, str], dict[str, Change]]:
        """Return (method, way) -> input -> change of a group of inputs; None: of all."""
        found: dict[tuple[str, str], dict[str, Change]] = {}
        for result in self.harmless:
            if group in (None, result.group):
                for key, change in result.rows.items():
                    found.setdefault(key, {})[result.name] = change
        return dict(sorted(found.items(), key=lambda item: list(self.methods).index(item[0][0])))

    def groups(self) -> list[str]:
        """Return the groups of sharp pictures, without those that were made."""
        return [g for g in dict.fromkeys(r.group for r in self.harmless) if g != MADE]


def audit_bars(audit: Audit) -> list[Bar]:
    """Return every bar, method by method."""
    found = [*_detection(audit), *_sharp_bars(audit), *_made_bars(audit)]
    return [bar for name in audit.methods for bar in found if bar.model == name]


def _detection(audit: Audit) -> Iterator[Bar]:
    for depth, rows in audit.nuclei().items():
        where = f"drawn nuclei, +-{depth:g} um"
        for name, planes in audit.methods.items():
            row, truth, layer = rows[name], _truth(rows, planes), _layer(rows, planes)
            precision, recall = _ratios(row, truth)
            yield Bar("precision over the truth's", name, where, precision, low=DETECTION)
            yield Bar("recall over the truth's", name, where, recall, low=DETECTION)
            yield Bar("area bias of nuclei", name, where, row.area_bias, -AREA, AREA)
            smooth = _contrast(row, "smooth")
            yield Bar(
                "contrast of smooth chromatin over the truth's", name, where, smooth, high=SMOOTH
            )
            error = _error_ratio(row, layer, _KINDS)
            what = "error of chromatin over layer 0's"
            yield Bar(what, name, where, error, high=CHROMATIN_ERROR)


def _truth(rows: Mapping[str, RowResult], planes: int) -> RowResult:
    return rows[TRUTH_OF[1 if planes == 1 else 3]]


def _layer(rows: Mapping[str, RowResult], planes: int) -> RowResult:
    return rows[LAYER0 if planes == 1 else LAYER0_OF_THREE]


def _ratios(row: RowResult, truth: RowResult) -> tuple[float, float]:
    """Return precision and recall over the truth's."""
    pairs = (
        (row.found.precision, truth.found.precision),
        (row.found.recall, truth.found.recall),
    )
    precision, recall = (own / wanted if wanted else math.nan for own, wanted in pairs)
    return precision, recall


def _contrast(row: RowResult, kind: str) -> float:
    texture = row.texture((kind,))
    return math.sqrt(texture.contrast / texture.truth) if texture.truth else math.nan


def _error_ratio(row: RowResult, layer: RowResult, kinds: Sequence[str]) -> float:
    own, other = row.texture(kinds).error, layer.texture(kinds).error
    return math.sqrt(own / other) if other else math.nan


def _sharp_bars(audit: Audit) -> Iterator[Bar]:
    for group in audit.groups():
        for (name, way), changes in audit.changes(group).items():
            worst = min(change.psnr for change in changes.values())
            mean = max(change.mean for change in changes.values())
            where = f"{group}, {way}"
            yield Bar("PSNR of a sharp input, the worst", name, where, worst, low=PSNR)
            yield Bar("mean change of a sharp input, the worst", name, where, mean, high=MEAN)


def _made_bars(audit: Audit) -> Iterator[Bar]:
    for (name, way), changes in audit.changes(MADE).items():
        where = f"made inputs, {way}"
        constant = [c.largest for i, c in changes.items() if i.startswith(("constant", "satur"))]
        noise = [c.fine_ratio for i, c in changes.items() if i.startswith("noise")]
        yield Bar("largest change of a constant", name, where, max(constant), high=ROUNDING)
        new = max(change.new for change in changes.values())
        yield Bar("farthest beyond the input's local range", name, where, new, high=NEW)
        middle = max(change.middle for change in changes.values())
        yield Bar("change of detail of 1.5 to 8 px", name, where, middle, high=MIDDLE)
        farthest = max(noise, key=lambda ratio: abs(ratio - 1))
        yield Bar("contrast of noise over the input's, the worst", name, where, farthest, *FINE)


def audit_tables(audit: Audit) -> list[Table]:
    """Return everything that was measured."""
    found = [table for depth in audit.nuclei() for table in _planted(audit, depth)]
    found += [_sharp(audit, group) for group in audit.groups()]
    found.append(_made(audit))
    return [table for table in found if table.rows]


def _planted(audit: Audit, depth: float) -> Iterator[Table]:
    results = audit.nuclei()[depth]
    rows, chromatin = [], []
    for name, row in results.items():
        planes = 1 if name in (LAYER0, TRUTH_OF[1]) else audit.methods.get(name, 3)
        precision, recall = _ratios(row, _truth(results, planes))
        layer = _layer(results, planes)
        flagged = row.flagged / row.tiles if row.tiles else math.nan
        counts = (row.found.planted, row.found.false_alarms, row.found.on_removed)
        rows.append(
            (
                name,
                *map(str, counts),
                *(number(v, 3) for v in (row.found.precision, row.found.recall)),
                *(number(v, 3) for v in (precision, recall, row.area_bias, flagged)),
            )
        )
        ratios = [_contrast(row, kind) for kind in _KINDS]
        ratios += [_error_ratio(row, layer, (kind,)) for kind in _KINDS]
        chromatin.append((name, *(number(ratio, 2) for ratio in ratios)))
    yield Table(f"Drawn nuclei, +-{depth:g} um", _NUCLEI_HEADS, tuple(rows), ())
    yield Table(f"Chromatin, +-{depth:g} um", _CHROMATIN_HEADS, tuple(chromatin), ())


def _sharp(audit: Audit, group: str) -> Table:
    rows = []
    for (name, way), changes in audit.changes(group).items():
        found = list(changes.values())
        psnr = [change.psnr for change in found]
        rows.append(
            (
                name,
                way,
                str(len(found)),
                *(number(v, 1) for v in (min(psnr), sum(psnr) / len(psnr))),
                *(number(v, 2) for v in (max(c.mean for c in found), _mean(c.mean for c in found))),
                *(number(v, 0) for v in (max(c.largest for c in found), max(c.new for c in found))),
                number(max(c.middle for c in found), 2),
            )
        )
    return Table(f"Sharp pictures: {group}", _SHARP_HEADS, tuple(rows), ())


def _made(audit: Audit) -> Table:
    rows = []
    for (name, way), changes in audit.changes(MADE).items():
        for given, change in changes.items():
            numbers = ((change.mean, 2), (change.largest, 0), (change.new, 0), (change.middle, 2))
            cells = (number(value, digits) for value, digits in (*numbers, (change.fine_ratio, 2)))
            rows.append((name, way, given, *cells))
    return Table("Inputs without cells", _MADE_HEADS, tuple(rows), ())


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def as_json(audit: Audit, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return it for ``audit.json``: bars, tables as they are printed, and every input's change."""
    return {
        "about": dict(about),
        "bars": [bar.as_json() for bar in audit_bars(audit)],
        "tables": [
            {"title": table.title, "columns": table.columns, "rows": table.rows}
            for table in audit_tables(audit)
        ],
        "inputs": [
            {"group": r.group, "input": r.name, "method": name, "given": way, **vars(change)}
            for r in audit.harmless
            for (name, way), change in r.rows.items()
        ],
    }
