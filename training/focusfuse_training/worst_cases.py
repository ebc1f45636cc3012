"""The pictures in which a method did worst, for the sheets of an audit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_focusfuse.slide import UInt8Image

from .figures import Figure, saved

_PICTURES = 3
_CELL_INCHES = 1.6


@dataclass(frozen=True)
class Case:
    """A place where a method did something."""

    row: str
    """The method."""
    badness: float
    """What cases are ranked by."""
    caption: str
    pictures: tuple[UInt8Image, UInt8Image, UInt8Image]
    """(Y, X, 3) input, output, and what it should be, or how the two differ."""


def worst(cases: Iterable[Case], count: int) -> list[Case]:
    """Return the worst cases of each method, methods in order of appearance; none that is good."""
    by_row: dict[str, list[Case]] = {}
    for case in cases:
        if case.badness > 0:
            by_row.setdefault(case.row, []).append(case)
    return [
        case
        for found in by_row.values()
        for case in sorted(found, key=lambda case: -case.badness)[:count]
    ]


def sheet(cases: list[Case], name: str, caption: str) -> Figure:
    """Return the cases as one picture, two a row, the three pictures of each side by side."""
    from matplotlib.figure import Figure as Drawing

    side = _CELL_INCHES * _PICTURES * 2
    drawing = Drawing(figsize=(side, (len(cases) + 1) // 2 * (_CELL_INCHES + 0.3) + 0.3))
    rows = (len(cases) + 1) // 2
    axes = drawing.subplots(rows, 2 * _PICTURES, squeeze=False)
    drawing.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.3 / (rows * 1.9 + 0.3), 0.03, 0.25)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, case in enumerate(cases):
        row, half = divmod(index, 2)
        own = axes[row, half * _PICTURES : (half + 1) * _PICTURES]
        for axis, picture in zip(own, case.pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
        own[1].set_title(f"{case.row}: {case.caption}", fontsize=6)
    return Figure(name, caption, saved(drawing, "jpg", 110))
