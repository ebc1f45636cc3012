"""The benchmark's tables, and its plot of scores against depth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_focusfuse.fusion_quality import VARIANTS as QUALITY
from napari_focusfuse.metrics import VARIANTS

from .contest import DEPTH_MEASURES, MEAN, StackResult
from .figures import Figure, colour_and_style, saved
from .method_cost import Cost
from .scoring import LAYER0, ORACLE, Scores
from .summary import Spread
from .tables import COLUMNS, Record, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLANES = {1: "One plane", 3: "Three planes", 11: "Eleven planes"}
_NOT_METHODS = (LAYER0, MEAN, ORACLE)


@dataclass(frozen=True)
class Findings:
    """All that the benchmark measured."""

    results: Sequence[StackResult]
    real: Mapping[int, Mapping[tuple[int, str], Scores]]
    """Planes of the real stack -> (planes, method) -> quality without a truth."""
    costs: Mapping[tuple[int, str], Cost]
    """(planes, method) -> cost; empty if not measured."""

    def conditions(self, planes: int) -> tuple[str, ...]:
        """Return the conditions under which methods were given so many planes."""
        found = (r.condition for r in self.results if any(p == planes for p, _ in r.rows))
        return tuple(dict.fromkeys(found))

    def names(self, planes: int) -> tuple[str, ...]:
        """Return the methods that were given so many planes."""
        found = (name for r in self.results for given, name in r.rows if given == planes)
        return tuple(dict.fromkeys(found))

    def spread(self, planes: int, name: str, condition: str, metric: str) -> Spread:
        """Return mean and scatter over the stacks of a condition."""
        return Spread.of(
            result.rows[planes, name][metric]
            for result in self.results
            if result.condition == condition and (planes, name) in result.rows
        )


def tables(findings: Findings) -> list[Table]:
    """Return the table of SSIM and cost for each number of planes, then what belongs beside it."""
    counts = [planes for planes in PLANES if findings.names(planes)]
    main = [_scores(findings, planes, COLUMNS[0]) for planes in counts]
    beside = [_scores(findings, planes, metric) for metric in COLUMNS[1:] for planes in counts]
    rest = [metric for metric in VARIANTS if metric not in COLUMNS]
    beside += [_scores(findings, planes, metric) for metric in rest for planes in counts]
    return [*main, _real(findings), _depth(findings), *beside]


def _scores(findings: Findings, planes: int, metric: str) -> Table:
    """Return one metric under every condition; the main one with the costs beside it."""
    conditions, main = findings.conditions(planes), metric == COLUMNS[0]
    rows, records = [], []
    for name in findings.names(planes):
        spreads = [findings.spread(planes, name, c, metric) for c in conditions]
        cells = [number(spread.mean, 2 if metric == "PSNR" else 4) for spread in spreads]
        rows.append((name, *cells, *(_cost(findings.costs.get((planes, name))) if main else ())))
        records += [
            _record(f"{planes} planes", condition, name, metric, spread)
            for condition, spread in zip(conditions, spreads, strict=True)
        ]
        if main and (cost := findings.costs.get((planes, name))) is not None:
            for what, value in (("s/Mpx", cost.seconds_per_mpx), ("MB", cost.megabytes)):
                once = Spread(value, math.nan, 1)
                records.append(_record(f"{planes} planes", "cost", name, what, once))
    heads = (*conditions, "s/Mpx", "MB") if main else conditions
    title = f"{PLANES[planes]}, {metric}"
    return Table(title, ("method", *heads), tuple(rows), tuple(records))


def _cost(cost: Cost | None) -> tuple[str, str]:
    if cost is None:
        return "–", "–"
    return number(cost.seconds_per_mpx, 2), number(cost.megabytes, 0)


def _real(findings: Findings) -> Table:
    """Return the quality without a truth on the real stack."""
    names = dict.fromkeys(name for rows in findings.real.values() for _, name in rows)
    columns = [(planes, metric) for planes in findings.real for metric in QUALITY]
    rows, records = [], []
    for name in names:
        cells = []
        for planes, metric in columns:
            value = findings.real[planes].get((planes, name), {}).get(metric, math.nan)
            cells.append(number(value, 4 if metric == "Q_ABF" else 2))
            once = Spread(value, math.nan, 1)
            records.append(_record("algae", f"{planes} planes", name, metric, once))
        rows.append((name, *cells))
    heads = (f"{metric}, {planes} planes" for planes, metric in columns)
    title = "Algae, a real stack of unknown truth"
    return Table(title, ("method", *heads), tuple(rows), tuple(records))


def _depth(findings: Findings) -> Table:
    """Return how good the depth map is, in um and as shares of what counts as cells."""
    grouped: dict[tuple[int, str], list[StackResult]] = {}
    for result in findings.results:
        grouped.setdefault((result.layers, result.condition), []).append(result)
    rows, records = [], []
    for (layers, condition), results in grouped.items():
        spreads = {m: Spread.of(r.depth[m] for r in results) for m in DEPTH_MEASURES}
        rows.append(
            (f"{layers} planes, {condition}", *(number(s.mean, 2) for s in spreads.values()))
        )
        records += [
            _record("depth map", condition, f"{layers} planes", measure, spread)
            for measure, spread in spreads.items()
        ]
    title = "Depth map: errors in um where it is confident, and the share of cells that is"
    return Table(title, ("stacks", *DEPTH_MEASURES), tuple(rows), tuple(records))


def _record(table: str, condition: str, row: str, metric: str, spread: Spread) -> Record:
    return table, condition, row, metric, spread.mean, spread.deviation, spread.count


def number(value: float, digits: int) -> str:
    """Return a value for a cell; a dash for none."""
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def plots(findings: Findings) -> list[Figure]:
    """Return the curves of SSIM against depth, a panel for each set of several depths."""
    panels = [
        (planes, kind, depths)
        for planes in PLANES
        if planes > 1
        for kind, depths in _by_kind(findings.conditions(planes)).items()
        if len(depths) > 1
    ]
    return [_curves(findings, panels)] if panels else []


def _curves(findings: Findings, panels: Sequence[tuple[int, str, Sequence[float]]]) -> Figure:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    axes = drawing.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (planes, kind, depths) in zip(axes, panels, strict=True):
        _draw(axis, findings, planes, kind, depths)
        axis.set(title=f"{PLANES[planes]}, {kind}", xlabel="depth, plus and minus (um)")
        axis.grid(color="#dddddd", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(COLUMNS[0])
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    drawing.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=6, frameon=False
    )
    caption = "SSIM-paper against the depth over which heights are spread"
    return Figure("ssim.png", caption, saved(drawing, "png", 90))


def _by_kind(conditions: Iterable[str]) -> dict[str, list[float]]:
    """Return the depths of each set; conditions are named by set and depth."""
    kinds: dict[str, list[float]] = {}
    for condition in conditions:
        kind, depth, _ = condition.rsplit(" ", 2)
        kinds.setdefault(kind, []).append(float(depth))
    return kinds


def _draw(axis: Axes, findings: Findings, planes: int, kind: str, depths: Sequence[float]) -> None:
    # A method has one colour in every panel, whatever others are there.
    everywhere = dict.fromkeys(name for count in PLANES for name in findings.names(count))
    methods = [name for name in everywhere if name not in _NOT_METHODS]
    for name in findings.names(planes):
        values = [
            findings.spread(planes, name, f"{kind} {depth:g} um", COLUMNS[0]).mean
            for depth in depths
        ]
        if name in _NOT_METHODS:
            colour = "#000000" if name == ORACLE else "#888888"
            style: dict[str, Any] = {"color": colour, "linestyle": "--" if name == LAYER0 else ":"}
        else:
            style = colour_and_style(methods.index(name))
        axis.plot(depths, values, markersize=4, lw=1.3, label=name, **style)
