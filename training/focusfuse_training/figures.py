"""Curves over images and sheets of pictures, drawn by matplotlib where it is installed."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_focusfuse.slide import UInt8Image

from .scoring import LAYER0_OF_THREE, Entry
from .summary import Condition
from .tables import COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PACKAGE = "matplotlib"

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C564B")
"""Okabe and Ito's, told apart by people of every colour vision; yellow is too pale for lines."""
_STYLES = ("-", "--", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_PLAIN = {"input": "#777777", "oracle": "#000000"}
_INSET = 8
"""The zoomed part is a square of this fraction of the picture's side."""
_CELL_INCHES = 1.55
_HEADING_INCHES = 0.45


@dataclass(frozen=True)
class Figure:
    """A drawn figure."""

    name: str
    """Its file's name."""
    caption: str
    content: bytes

    @property
    def data_uri(self) -> str:
        """The picture as an address that holds it."""
        kind = "jpeg" if self.name.endswith(".jpg") else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


def can_draw() -> bool:
    """Tell whether the package that draws is installed."""
    return find_spec(PACKAGE) is not None


def figures(condition: Condition) -> list[Figure]:
    """Return the curves of Figures 6 and 8 and the sheets of Figures 5 and 7 of one condition."""
    found = []
    for several, words, number in ((False, "one plane", 1), (True, "three planes", 3)):
        rows = [row for row in condition.of_planes(several) if row.kind != "control"]
        if not rows:
            continue
        name = f"{condition.name.replace(' ', '-')}-{words.replace(' ', '-')}"
        caption = f"Scores of each image, {words}, {condition.name}"
        found.append(Figure(f"curves-{name}.png", caption, _curves(condition, rows, caption)))
        if condition.shown:
            caption = (
                f"Test images, {words}, {condition.name}. Below each: the marked square, enlarged, "
                "where layer 0 differs most from the truth"
            )
            # The models of an earlier evaluation join the curves; their pictures were not kept.
            pictured = [row for row in rows if all(row.name in each for each in condition.shown)]
            content = _sheet(condition.shown, pictured, f"truth {number}")
            found.append(Figure(f"sheet-{name}.jpg", caption, content))
    return found


def _curves(condition: Condition, rows: Sequence[Entry], title: str) -> bytes:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(11, 7.5), layout="constrained")
    axes = drawing.subplots(2, 2, sharex=True)
    for axis, metric in zip(axes.flat, COLUMNS, strict=True):
        _draw_metric(axis, condition, rows, metric)
    for axis in axes[1]:
        axis.set_xlabel("test image")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    drawing.suptitle(title)
    return saved(drawing, "png", 110)


def _draw_metric(axis: Axes, condition: Condition, rows: Sequence[Entry], metric: str) -> None:
    index = 0
    for row in rows:
        values = [scores[metric] for scores in condition.images[row.name]]
        numbers = np.arange(1, len(values) + 1)
        if row.kind in _PLAIN:
            style = "--" if row.kind == "input" else ":"
            axis.plot(numbers, values, style, color=_PLAIN[row.kind], lw=1.6, label=row.name)
            continue
        axis.plot(numbers, values, markersize=4, lw=1.2, label=row.name, **colour_and_style(index))
        index += 1
    axis.set_ylabel("PSNR (dB)" if metric == "PSNR" else metric)
    axis.grid(color="#dddddd", lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def colour_and_style(index: int) -> dict[str, Any]:
    """Return how to draw the curve of a number, none like another's for some twenty of them."""
    turn, place = divmod(index, len(_COLOURS))
    return {
        "color": _COLOURS[place],
        "linestyle": _STYLES[turn % len(_STYLES)],
        "marker": _MARKERS[(place + 3 * turn) % len(_MARKERS)],
    }


def _sheet(shown: Sequence[Mapping[str, UInt8Image]], rows: Sequence[Entry], truth: str) -> bytes:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.patches import Rectangle

    columns = [*(row.name for row in rows), truth]
    width, height = _CELL_INCHES * len(columns), _CELL_INCHES * 2 * len(shown) + _HEADING_INCHES
    drawing = Drawing(figsize=(width, height))
    axes = drawing.subplots(2 * len(shown), len(columns), squeeze=False)
    # Fixed margins: matplotlib's automatic ones take seconds with so many axes.
    top = 1 - _HEADING_INCHES / height
    drawing.subplots_adjust(0.005, 0.005, 0.995, top, wspace=0.03, hspace=0.03)
    for number, pictures in enumerate(shown):
        y, x, side = inset(pictures[columns[0]], pictures[truth])
        for column, name in enumerate(columns):
            image = pictures[name]
            whole, zoomed = axes[2 * number, column], axes[2 * number + 1, column]
            whole.imshow(image, interpolation="antialiased")
            frame = Rectangle((x - 0.5, y - 0.5), side, side, fill=False, ec="#000000", lw=1)
            whole.add_patch(frame)
            zoomed.imshow(image[y : y + side, x : x + side], interpolation="nearest")
            if number == 0:
                whole.set_title(_heading(name), fontsize=9)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return saved(drawing, "jpg", 150)


def _heading(name: str) -> str:
    name = {LAYER0_OF_THREE: "layer 0", "truth 1": "truth", "truth 3": "truth"}.get(name, name)
    if len(name) <= 16:
        return name
    # Break at the sign nearest to the middle.
    signs = [i for i, sign in enumerate(name) if sign in "- ,"] or [len(name) // 2]
    place = min(signs, key=lambda i: abs(i - len(name) // 2)) + 1
    return f"{name[:place]}\n{name[place:]}"


def inset(layer0: UInt8Image, truth: UInt8Image) -> tuple[int, int, int]:
    """Return (y, x, side) of the part where layer 0 differs most from the truth."""
    side = max(16, layer0.shape[0] // _INSET)
    difference = np.abs(layer0.astype(np.int16) - truth).mean(axis=2)
    sums = np.pad(difference, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return int(y), int(x), side


def saved(drawing: Drawing, kind: str, dots: int) -> bytes:
    """Return a drawing as the content of a ``png`` or ``jpg`` file of so many dots an inch."""
    content = io.BytesIO()
    options = {"pil_kwargs": {"quality": 90}} if kind == "jpg" else {}
    # No version of the program in the file: equal figures shall be equal files.
    metadata = {"Software": None} if kind == "png" else None
    drawing.savefig(content, format=kind, dpi=dots, metadata=metadata, **options)  # type: ignore[arg-type]
    return content.getvalue()
