"""Every method on stacks of known truth, and on a real one: ``focusfuse benchmark --help``.

Writes ``tables.md``, ``tables.csv``, ``index.html`` and, where matplotlib is installed, the plots.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import BORDER_PX, SEEDS, data_set
from napari_focusfuse.fusion.catalogue import available_methods
from napari_focusfuse.fusion.method import UnknownMethodError
from napari_focusfuse.fusion_quality import VARIANTS as QUALITY
from napari_focusfuse.metrics import VARIANTS
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import FocusFuseError, UInt8Image

from .benchmark_sets import BENCHMARK_SETS, BenchmarkSet
from .benchmark_tables import Findings, plots, tables
from .command import Parser, UsageError, make_folder, write_files
from .contest import StackTask, contest_all, judge_real, methods
from .figures import PACKAGE, can_draw
from .method_cost import Cost, measure
from .pages import Report
from .scoring import Scores, classical
from .tables import to_csv

log = logging.getLogger(__name__)

SIDE_PX = 384
STACKS = 2
QUICK_SIDE_PX = 192
QUICK_DEPTH_UM = 8.0
_COST_SIDE_PX = 512


@dataclass(frozen=True)
class Request:
    """What to benchmark."""

    out: Path
    data: Path | None = None
    """Folder of the CRIC images, whose held-out fields join; None: drawn cells only."""
    methods: tuple[str, ...] = ()
    """Only these; empty: every registered method."""
    side: int = SIDE_PX
    stacks: int = STACKS
    """How many of each kind, by seed."""
    jobs: int = 0
    """Processes; 0: one a core."""
    quick: bool = False
    """Small stacks of one depth, one of each kind; costs are not measured."""
    command: str = "focusfuse benchmark"


def benchmark(request: Request) -> None:
    """Score every method and write tables and plots.

    Raises
    ------
    FocusFuseError
        If a method is unknown, the data is not there, or the folder cannot be written.
    """
    known = {info.name for info in (*available_methods(), *classical())}
    unknown = [name for name in request.methods if name not in known]
    if unknown:
        raise UnknownMethodError(
            f"There is no fusion method {unknown[0]!r}; choose of {', '.join(sorted(known))}."
        )
    tasks = stack_tasks(request)
    make_folder(request.out)
    results = []
    for result in contest_all(tasks, request.jobs or os.cpu_count() or 1, request.methods):
        results.append(result)
        log.info(
            "%d of %d: %s, %d planes", len(results), len(tasks), result.condition, result.layers
        )
    findings = Findings(results, _real(request), {} if request.quick else _costs(request))
    _write(request, findings, tasks)


def stack_tasks(request: Request) -> list[StackTask]:
    """Return the stacks to render, small ones of one depth if it is to be quick."""
    side = min(request.side, QUICK_SIDE_PX) if request.quick else request.side
    stacks = 1 if request.quick else request.stacks
    tasks = []
    for kind, fields in _kinds(request):
        quick = QUICK_DEPTH_UM if QUICK_DEPTH_UM in kind.depths_um else kind.depths_um[-1]
        tasks += [
            StackTask(kind, depth, seed, layers, side, field)
            for layers in kind.layers
            for depth in ((quick,) if request.quick else kind.depths_um)
            for seed in SEEDS[:stacks]
            for field in fields[: 1 if request.quick else None]
        ]
    return tasks


def _kinds(request: Request) -> list[tuple[BenchmarkSet, Sequence[UInt8Image | None]]]:
    """Return the sets with their sharp fields; None stands for drawn cells."""
    kinds: list[tuple[BenchmarkSet, Sequence[UInt8Image | None]]]
    kinds = [(kind, (None,)) for kind in BENCHMARK_SETS]
    if request.data is not None:
        images = data_set()
        about = f"held-out fields of {images.name} on a smooth height map"
        fields = images.read(request.data, "test")
        kinds.insert(0, (BenchmarkSet("CRIC", about, noisy_truth=True), fields))
    return kinds


def _real(request: Request) -> dict[int, dict[tuple[int, str], Scores]]:
    """Return the scores of the shipped algae, of their three middle planes and of all."""
    sample = files("napari_focusfuse") / "samples" / "algae.ome.tif"
    with as_file(sample) as path, open_slide(path) as slide:
        height, width = slide.levels[0].shape
        side = min(height, width, request.side)
        if request.quick:
            side = min(side, QUICK_SIDE_PX)
        box = (height - side) // 2, (width - side) // 2, side, side
        planes = np.stack([slide.read_region(plane, 0, *box) for plane in slide.planes])
    middle = len(planes) // 2
    stacks = [planes[middle - 1 : middle + 2], planes]
    log.info("algae, %d x %d px", side, side)
    return {len(stack): judge_real(stack, request.methods) for stack in stacks}


def _costs(request: Request) -> dict[tuple[int, str], Cost]:
    costs = {}
    for planes in (1, 3, 11):
        names = [info.name for info in methods(planes, request.methods)]
        for name, cost in measure(names, planes, _COST_SIDE_PX):
            costs[planes, name] = cost
            log.info("%s, %d planes: %s", name, planes, cost)
    return costs


def _write(request: Request, findings: Findings, tasks: Sequence[StackTask]) -> None:
    found = tables(findings)
    figures = tuple(plots(findings)) if can_draw() else ()
    report = Report(
        "Benchmark", _head(tasks), request.command, (("All methods", tuple(found), figures),)
    )
    contents = {
        "tables.md": report.markdown().encode(),
        "tables.csv": to_csv(found).encode(),
        "index.html": report.html().encode(),
    }
    contents |= {figure.name: figure.content for figure in figures}
    write_files(request.out, contents)


def _head(tasks: Sequence[StackTask]) -> tuple[str, ...]:
    kinds = {task.kind.name: task.kind for task in tasks}
    seeds = sorted({task.seed for task in tasks})
    return (
        *(f"{name}: {kind.about}" for name, kind in kinds.items()),
        f"Stacks of {tasks[0].side} x {tasks[0].side} px at most, 0.243 um a pixel, planes 2.7 um "
        f"apart where nothing else is said, seeds {', '.join(map(str, seeds))}; a cell is the mean",
        "Heights are spread over plus and minus the depth in a column's head; the planes given "
        "reach from -2.7 to +2.7 um (three) and from -13.5 to +13.5 um (eleven)",
        "layer 0, mean of planes and oracle selection are no methods: the untouched plane, the "
        "plain mean, and the choice of the plane nearest to the true height",
        "The truth of drawn cells is without noise, that of sharp fields has the noise of the "
        f"plane nearest to each pixel; {BORDER_PX} px at each side are left out",
        *(f"{name}: {text}" for name, text in (VARIANTS | QUALITY).items()),
        f"Seconds and megabytes: one picture of {_COST_SIDE_PX} x {_COST_SIDE_PX} px fused in one "
        "piece on one core of this machine's CPU, a fresh process for each method; seconds are "
        "processor time, megabytes the most held at once beyond the planes and the program",
    )


# ---------------------------------------------------------------------- command line


def parse(arguments: Sequence[str]) -> Request:
    """Return what a command line asks for.

    Raises
    ------
    UsageError
        If it cannot be understood.
    """
    parser = Parser("focusfuse benchmark", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("focusfuse-benchmark"))
    parser.add_argument("--data", type=Path, help="folder of the CRIC images: adds their fields")
    parser.add_argument("--methods", default="", metavar="NAME,...", help="only these")
    parser.add_argument("--side", type=int, default=SIDE_PX, help="of a stack, in pixels")
    parser.add_argument("--stacks", type=int, default=STACKS, help="of each kind, 1 to 5")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one a core)")
    parser.add_argument("--quick", action="store_true", help="small, one depth, no costs")
    options = parser.parse_args(arguments)
    if not (1 <= options.stacks <= len(SEEDS) and options.side >= 128 and options.jobs >= 0):
        raise UsageError(
            f"--stacks must be 1 to {len(SEEDS)}, --side 128 or more, --jobs 0 or more; see --help."
        )
    return Request(
        options.out,
        options.data,
        tuple(filter(None, options.methods.split(","))),
        options.side,
        options.stacks,
        options.jobs,
        options.quick,
        command=shlex.join(["focusfuse", "benchmark", *arguments]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from a shell and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        request = parse(sys.argv[1:] if arguments is None else arguments)
        benchmark(request)
    except FocusFuseError as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print((request.out / "tables.md").read_text(encoding="utf-8"))  # noqa: T201
    if not can_draw():
        log.warning("no plots: install %s, or napari-focusfuse[evaluate], to have them", PACKAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
