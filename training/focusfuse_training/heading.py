"""What stands above the tables of an evaluation: what was scored on what, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from napari_focusfuse.benchmark_definition import BORDER_PX
from napari_focusfuse.error_bands import BANDS, COARSE_PX
from napari_focusfuse.metrics import VARIANTS

from .candidates import Candidate
from .findings import Findings
from .material import Material
from .scoring import SELECTIONS
from .summary import Condition


def heading(
    material: Material, findings: Findings, candidates: Sequence[Candidate]
) -> tuple[str, ...]:
    """Return sentences on data, conditions, measures and models."""
    squares = [square for c in material.conditions.values() for t in c for square in t.squares]
    sides = sorted({square.side for square in squares})
    counts = {sum(len(task.squares) for task in c) for c in material.conditions.values()}
    count = " or ".join(map(str, sorted(counts, reverse=True)))
    size = " or ".join(map(str, sides))
    sentences = [
        f"Data: {material.specimens}",
        f"Conditions: {', '.join(condition.name for condition in findings.conditions)} (simulated "
        "heights spread over plus and minus so much)",
        f"Images: {count} squares of {size} px a condition; a cell is the mean over them ± "
        "their sample standard deviation",
        f"Whole stacks are scored without their outer {BORDER_PX} px where they are simulated",
        *(f"{name}: {text}" for name, text in VARIANTS.items()),
        *(f"{name}: {text}" for name, text in BANDS.items()),
        "overshoot: by how much colours leave the truth's range in 5 x 5 px, mean, grey levels",
        f"tone: change above sigma {COARSE_PX:g} px from the input (one plane) or the selection by "
        "Laplacian energy (several), grey levels; the bar is on what a network's correction "
        "changes of its own blend of planes",
        f"rival: the input (one plane), or the best of {', '.join(SELECTIONS)} and the untouched "
        "layer (several), by mean SSIM-paper",
        "90 % intervals: |output - truth| <= factor x expected error + half a grey level, the "
        "factor by split conformal prediction on the calibration part, which is "
        f"{len({id(task.source) for task in material.calibration})} field(s): nothing is "
        "guaranteed for other fields, so coverage there is measured",
    ]
    return (*sentences, *(candidate.sentence() for candidate in candidates))


def said(earlier: Mapping[str, Any], conditions: Sequence[Condition]) -> Iterator[str]:
    """Yield what the earlier evaluation said of the models that join the tables."""
    if not earlier:
        return
    yield f"Rows of an earlier evaluation of the same images: `{earlier['about']['command']}`"
    labels = {row.name for c in conditions for row in c.rows if row.name not in c.whole}
    for sentence in earlier["about"]["head"]:
        if sentence.partition(":")[0] in labels:
            yield sentence
