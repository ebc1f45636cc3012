"""What a method must never do, measured: ``python -m focusfuse_training.audit --help``.

Whether it leaves sharp pictures alone, whether it makes something of inputs that hold nothing,
whether it invents or erases nuclei and chromatin, and what the re-blur check says of its output.
Writes ``audit.md``, ``audit.json`` and, where matplotlib is installed, sheets of the worst cases.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import torch

from napari_focusfuse.benchmark_definition import CAMERA, OPTICS, Z_STEP_UM, data_set
from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.slide import FocusFuseError

from .audit_tables import Audit, as_json, audit_bars, audit_tables
from .bars import bars_table
from .candidates import Candidate, find_candidates
from .command import Parser, UsageError, finite, make_folder, numbers, write_files
from .figures import PACKAGE, Figure, can_draw
from .hallucination import DEPTHS_UM, SIDE_PX, PlantedResult, PlantedTask
from .harmless import HarmlessResult, HarmlessTask, fields, made, own_pictures
from .nuclei import PACKAGE as DETECTOR_PACKAGE
from .pages import Report
from .scoring import LAYER0, LAYER0_OF_THREE, Entry, entries
from .worst_cases import Case, sheet, worst

log = logging.getLogger(__name__)

NUCLEI = 500
"""Planted over all depths, those that are left out not counted."""
_NUCLEI_A_SMEAR = 12
"""Of 16 places a fifth lacks its nucleus; by chance a few more."""
_SHOWN = 6
"""Worst cases of each method on a sheet."""

Task = PlantedTask | HarmlessTask
Result = PlantedResult | HarmlessResult


@dataclass(frozen=True)
class Request:
    """What to audit."""

    words: tuple[str, ...]
    """Names of methods or of shipped models, model files, or runs' folders."""
    out: Path
    data: Path | None = None
    """Folder of the data set's fields; None: they are left out."""
    sharp: tuple[Path, ...] = ()
    """Slides and pictures of the user's own that are in focus."""
    nuclei: int = NUCLEI
    depths: tuple[float, ...] = DEPTHS_UM
    jobs: int = 0
    """Processes; 0: one a core."""
    data_set: str = "cric"
    command: str = "python -m focusfuse_training.audit"


def audit(request: Request) -> Audit:
    """Measure some methods and write the tables.

    Raises
    ------
    FocusFuseError
        If a method or picture cannot be used, or the folder cannot be written.
    """
    if find_spec(DETECTOR_PACKAGE) is None:
        raise UsageError("The audit needs scikit-image; install napari-focusfuse[evaluate].")
    chosen = choose(request.words)
    tasks = audit_tasks(request)
    make_folder(request.out)
    results: list[Result] = []
    for result in _run_all(tasks, chosen, request.jobs or os.cpu_count() or 1):
        results.append(result)
        log.info("%d of %d", len(results), len(tasks))
    asked = {row.name: row.planes for row in rows_of(chosen) if row.name in chosen.asked}
    found = Audit(
        asked,
        [result for result in results if isinstance(result, PlantedResult)],
        [result for result in results if isinstance(result, HarmlessResult)],
    )
    _write(request, found)
    return found


@dataclass(frozen=True)
class Choice:
    """The methods to audit; small, so that processes can be told it."""

    names: tuple[str, ...]
    """Of methods that are no models."""
    candidates: tuple[Candidate, ...]

    @property
    def asked(self) -> tuple[str, ...]:
        """Every method's name in the tables."""
        return (*self.names, *(candidate.label for candidate in self.candidates))


def choose(words: Sequence[str]) -> Choice:
    """Return the methods that words stand for.

    Raises
    ------
    ModelError
        If a word stands for none.
    """
    known = {row.name for row in entries([]) if row.kind != "oracle"}
    names = tuple(word for word in words if word in known)
    candidates = find_candidates([word for word in words if word not in known])
    marking = [candidate.label for candidate in candidates if candidate.marks_blur]
    if marking:
        raise UsageError(f"{marking[0]} marks blur and fuses nothing; leave it out.")
    return Choice(names, tuple(candidates))


def rows_of(choice: Choice) -> list[Entry]:
    """Return the untouched layer, the plainest selection for comparison, and what was chosen."""
    wanted = {LAYER0, LAYER0_OF_THREE, ARGMAX.name, *choice.asked}
    return [row for row in entries(choice.candidates) if row.name in wanted]


def audit_tasks(request: Request) -> list[Task]:
    """Return the smears to draw and the inputs to give."""
    smears = -(-request.nuclei // (_NUCLEI_A_SMEAR * len(request.depths)))
    tasks: list[Task] = [
        PlantedTask(depth, seed, SIDE_PX) for depth in request.depths for seed in range(smears)
    ]
    tasks += made()
    if request.data is not None:
        tasks += fields(data_set(request.data_set), request.data)
    for path in request.sharp:
        tasks += own_pictures(path)
    return tasks


def _write(request: Request, found: Audit) -> None:
    bars = audit_bars(found)
    kept = sum(bar.holds is True for bar in bars)
    head = (
        f"Methods: {', '.join(found.methods)}; {kept} of {len(bars)} bars hold",
        *_about(request, found),
    )
    figures: tuple[Figure, ...] = ()
    if can_draw():
        figures = tuple(
            sheet(cases, f"{name}.jpg", caption) for name, caption, cases in _cases(found) if cases
        )
    sections = (
        ("What must hold", (bars_table(bars),), figures),
        ("All that was measured", tuple(audit_tables(found)), ()),
    )
    report = Report("Audit", head, request.command, sections)
    about = {"command": request.command, "said": head}
    record = json.dumps(finite(as_json(found, about)), indent=1)
    contents = {"audit.md": report.markdown().encode(), "audit.json": f"{record}\n".encode()}
    write_files(request.out, contents | {figure.name: figure.content for figure in figures})


def _cases(found: Audit) -> Iterator[tuple[str, str, list[Case]]]:
    planted = [c for r in found.planted for c in r.cases if c.row in found.methods]
    changed = [c for r in found.harmless for c in r.cases if c.row in found.methods]
    yield (
        "nuclei",
        "Where each method is most wrong about a nucleus: layer 0, output, truth",
        worst(planted, _SHOWN),
    )
    yield (
        "changes",
        "Where each method changed a sharp input most: input, output, difference x 8",
        worst(changed, _SHOWN),
    )


def _about(request: Request, found: Audit) -> tuple[str, ...]:
    return (
        *_smears(request, found),
        "Detector: stain density and distance watershed (`python -m focusfuse_training.nuclei`); "
        "area bias is the mean over nuclei of area over that in the truth image, less one",
        "Chromatin: detail of 1.5 to 8 px in a nucleus' core, less the mean at each distance from "
        "its centre; its error is the RMS difference from the truth",
        "Beyond local range: farthest that a value leaves the input's range in 5 x 5 px around it, "
        "in grey levels, as all changes are",
        "Tiles flagged: share of 64 px tiles whose output, blurred again, does not give layer 0",
    )


def _smears(request: Request, found: Audit) -> Iterator[str]:
    if found.planted:
        smears = len(found.planted) // len(request.depths)
        yield (
            f"Drawn smears: {smears} of {SIDE_PX} x {SIDE_PX} px at each depth, seeds 0 to "
            f"{smears - 1}, heights over plus and minus the depth, three planes {Z_STEP_UM:g} um "
            f"apart, effective aperture {OPTICS.na:g}, {CAMERA.electrons:g} electrons, JPEG "
            f"{CAMERA.jpeg_quality}; a fifth of the cells lack their nucleus"
        )


# ---------------------------------------------------------------------- processes

_rows: list[Entry] = []


def _start_worker(choice: Choice) -> None:
    torch.set_num_threads(1)  # a process a core; more threads would only wait for each other
    _rows[:] = rows_of(choice)


def _run(task: Task, asked: Sequence[str]) -> Result:
    if isinstance(task, PlantedTask):
        return task.run(_rows)
    return task.run([row for row in _rows if row.name in asked])


def _run_all(tasks: Sequence[Task], choice: Choice, jobs: int) -> Iterator[Result]:
    if jobs == 1:
        _rows[:] = rows_of(choice)
        yield from (_run(task, choice.asked) for task in tasks)
        return
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(
        jobs, mp_context=spawn, initializer=_start_worker, initargs=(choice,)
    ) as pool:
        yield from pool.map(_run, tasks, [choice.asked] * len(tasks))


# ---------------------------------------------------------------------- command line


def parse(arguments: Sequence[str]) -> Request:
    """Return what a command line asks for.

    Raises
    ------
    UsageError
        If it cannot be understood.
    """
    parser = Parser("python -m focusfuse_training.audit", description=__doc__)
    parser.add_argument("methods", nargs="+", help="methods, shipped models, model files, or runs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--data", type=Path, help="folder of the data set's images")
    parser.add_argument("--data-set", default="cric", help="name of the data set, or its .toml")
    parser.add_argument(
        "--sharp", type=Path, nargs="+", default=[], help="slides and pictures that are in focus"
    )
    parser.add_argument("--nuclei", type=int, default=NUCLEI, help="planted in all, 0: none")
    parser.add_argument("--depths", type=numbers, default=DEPTHS_UM, metavar="UM,...")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one a core)")
    options = parser.parse_args(arguments)
    if options.nuclei < 0 or options.jobs < 0 or min(options.depths) < 0:
        raise UsageError("--nuclei, --depths and --jobs must not be negative; see --help.")
    return Request(
        tuple(options.methods),
        options.out,
        options.data,
        tuple(options.sharp),
        options.nuclei,
        options.depths,
        options.jobs,
        options.data_set,
        command=shlex.join(["python", "-m", "focusfuse_training.audit", *arguments]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the audit from a shell and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        request = parse(given)
        found = audit(request)
    except FocusFuseError as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(bars_table(audit_bars(found)).markdown())  # noqa: T201
    print(f"wrote {request.out / 'audit.md'}")  # noqa: T201
    if not can_draw():
        log.warning("no sheets: install %s, or napari-focusfuse[evaluate], to have them", PACKAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
