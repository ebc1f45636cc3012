"""Score models beside classical methods: ``python -m focusfuse_training.evaluate --help``.

Writes ``tables.md``, ``tables.csv``, ``index.html``, ``scores.json``, the figures, and, for each
model, a copy to ship: float16 weights with the scores in the card.  The scores are those of the
float16 weights.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_focusfuse.benchmark_definition import DEPTHS_UM, SEEDS
from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_run import TrainingRun

from .bars import bars_table
from .candidates import Candidate, adopt, find_candidates, note_scores
from .command import Parser, UsageError, make_folder, numbers, write_files
from .controls import fit_threshold
from .figures import PACKAGE, can_draw
from .findings import Findings
from .heading import heading, said
from .material import Extent, Material, of_data_set, of_run, with_real, with_unseen
from .pages import Report
from .real_stack import RealStack
from .scoring import Result, Score, Scorer, scoring
from .summary import Condition, total_expectations
from .tables import to_csv
from .task import Task

log = logging.getLogger(__name__)

LEAST_SIDE = 128
"""Pixels; a border of 32 at each side is not scored."""
PATCHES = 30
"""Images of the tables and curves: as many as the paper's Figures 6 and 8 show."""


@dataclass(frozen=True)
class Request:
    """What to evaluate."""

    models: tuple[str, ...]
    """Files, runs, or shipped names."""
    data: Path | None
    """Folder of the data set's images, or a run; None: the run among the models."""
    out: Path
    depths: tuple[float, ...] = DEPTHS_UM
    drawn: bool = False
    """Whether to score on drawn smears in place of the data set's test fields."""
    patches: int = PATCHES
    jobs: int = 0
    """Processes; 0: one a core."""
    data_set: str = "cric"
    unseen: tuple[tuple[str, Path], ...] = ()
    """Data sets of other specimens and their images' folders, which are scored as well."""
    stacks: tuple[tuple[str, Path], ...] = ()
    """Names of real stacks and where they are."""
    seeds: int = len(SEEDS)
    """Stacks of each field at each depth."""
    side: int | None = None
    """Of the middle of each field that is imaged; None: all of it."""
    methods: tuple[str, ...] = ()
    """Only these classical methods and denoising controls; empty: all."""
    figures: bool = True
    """Whether to draw curves and sheets of pictures, which take longer than the scores of some."""
    beside: Path | None = None
    """An earlier ``scores.json`` on the same images, whose models join the tables."""
    command: str = "focusfuse evaluate"

    def repeatable(self) -> str:
        """Return the command for a card, without what only this machine knows."""
        found = ["focusfuse evaluate MODEL... --data DIR"]
        found += [f"--unseen {Path(name).stem}=DIR" for name, _ in self.unseen]
        found += [f"--stack {name}=DIR" for name, _ in self.stacks]
        found.append(f"--depths {','.join(f'{depth:g}' for depth in self.depths)}")
        found += [f"--seeds {self.seeds}"] if self.seeds != len(SEEDS) else []
        found += [] if self.side is None else [f"--side {self.side}"]
        return " ".join([*found, "--out DIR"])


def evaluate(request: Request) -> Findings:
    """Score models under several conditions and write tables, figures and the models to ship.

    Raises
    ------
    FocusFuseError
        If a model or picture cannot be used, or the folder cannot be written.
    """
    found = find_candidates(request.models)
    earlier = {} if request.beside is None else _earlier(request.beside)
    material = _material(request)
    make_folder(request.out)
    candidates = adopt(found, request.out)
    scorer = Scorer(candidates, request.methods)
    with scoring(candidates, request.jobs or os.cpu_count() or 1, scorer, request.methods) as score:
        findings, begun = _begin(material, scorer, score, candidates)
        for name, results in begun.items():
            condition = Condition.of(
                name,
                scorer.rows,
                list(results),
                unseen=material.unseen.get(name, ""),
                depth_um=material.conditions[name][0].depth_um,
            )
            if name in earlier:
                condition = condition.beside(earlier[name])
            findings.conditions.append(condition)
            log.info("%s: %s %s", name, condition.error_ratios(), condition.mask_scores())
            sentences = heading(material, findings, candidates)
            sentences += tuple(said(earlier, findings.conditions))
            _write(request, candidates, sentences, findings)
    return findings


def _begin(
    material: Material, scorer: Scorer, score: Score, candidates: Sequence[Candidate]
) -> tuple[Findings, dict[str, Iterator[Result]]]:
    """Begin all conditions at once, so that no process waits while pictures are drawn here.

    Returns
    -------
    tuple
        What holds for all conditions, and the results of each as they come.
    """
    calibrating = score(material.calibration if scorer.expects_error else (), None)
    thresholds = _thresholds(material) if scorer.detectors else {}
    begun = {n: score(tasks, thresholds.get(n)) for n, tasks in material.conditions.items()}
    sharp = scorer.change_on_sharp(material.sharp)
    log.info("mean change of sharp input: %s", sharp)
    factors = {name: tally.factor() for name, tally in total_expectations(calibrating).items()}
    log.info("factors of 90 %% intervals: %s", factors)
    papers = [c.label for c in candidates if c.card.architecture == "generator"]
    return Findings(sharp, factors, papers), begun


def _material(request: Request) -> Material:
    """Return what to judge on; a run brings its own test split."""
    data = request.data
    if data is None:
        runs = (Path(word) for word in request.models if Path(word).is_dir())
        data = next(runs, None)
        if data is None:
            raise UsageError("No --data was given; name the data set's folder, or a run.")
    run = TrainingRun(data)
    if run.config_file.is_file():
        extent = Extent(request.depths, request.patches)
        material = of_run(run, extent, drawn=request.drawn)
    else:
        extent = Extent(request.depths, request.patches, request.seeds, request.side)
        material = of_data_set(request.data_set, data, extent, drawn=request.drawn)
        for name, folder in request.unseen:
            material = with_unseen(material, name, folder, extent)
    for name, path in request.stacks:
        material = with_real(material, name, RealStack(path), request.patches)
    return material


def _earlier(path: Path) -> dict[str, Any]:
    """Return an earlier evaluation, as its ``scores.json`` has it."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        list(found["about"]["head"])
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); see --beside.") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} holds no earlier scores; give a scores.json.") from None
    return found


def _thresholds(material: Material) -> dict[str, float | None]:
    """Fit the control's threshold for every condition, once for those fitted on the same stacks."""
    fitted: dict[int, float | None] = {}
    for tasks in material.tuning.values():
        if id(tasks) not in fitted:
            fitted[id(tasks)] = _threshold(tasks)
    return {name: fitted[id(tasks)] for name, tasks in material.tuning.items()}


def _threshold(tasks: Sequence[Task]) -> float | None:
    """Fit the control's threshold on training stacks of which every pixel is known."""
    samples = [sample for sample in (task.render() for task in tasks) if sample.known.all()]
    if not samples:
        return None
    return fit_threshold([s.layer0 for s in samples], [s.blurred for s in samples])


def _write(
    request: Request, candidates: Sequence[Candidate], head: Sequence[str], findings: Findings
) -> None:
    sections = findings.sections(candidates, draw=request.figures and can_draw())
    report = Report("Evaluation", tuple(head), request.command, sections)
    scores = findings.as_json({"head": list(head), "command": request.command})
    texts = {
        "tables.md": report.markdown(),
        "tables.csv": to_csv([table for _, found, _ in sections for table in found]),
        "index.html": report.html(),
        "scores.json": json.dumps(scores, indent=1) + "\n",
    }
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {figure.name: figure.content for *_, drawn in sections for figure in drawn}
    write_files(request.out, contents)
    for candidate in candidates:
        noted = findings.of_model(candidate.label, request.repeatable())
        note_scores(candidate, noted, findings.factors.get(candidate.label))


# ---------------------------------------------------------------------- command line


def _named(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        raise ValueError(f"{text!r} is not of the form NAME=PATH")
    return name, Path(path)


def parse(arguments: Sequence[str]) -> Request:
    """Return what a command line asks for.

    Raises
    ------
    UsageError
        If it cannot be understood.
    """
    parser = Parser("focusfuse evaluate", description=__doc__)
    parser.add_argument("models", nargs="+", help="model files, runs' folders, or shipped names")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the data set's images, or a run whose test split to take (default: the "
        "first run among the models)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all results")
    parser.add_argument(
        "--depths", type=numbers, default=DEPTHS_UM, metavar="UM,...", help="as in 4,8"
    )
    parser.add_argument("--drawn", action="store_true", help="score on drawn smears instead")
    parser.add_argument("--patches", type=int, default=PATCHES, help="images of the tables")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="SCORES.json",
        help="let the models of an earlier evaluation on the same images join the tables",
    )
    parser.add_argument(
        "--unseen",
        type=_named,
        action="append",
        default=[],
        metavar="DATA_SET=DIR",
        help="score on another data set's test fields as well, as in lbc=images/",
    )
    parser.add_argument(
        "--stack",
        type=_named,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="score on a real stack as well: its middle planes against the fusion of all",
    )
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), help="stacks of each field, 1 to 5"
    )
    parser.add_argument("--side", type=int, help="of the middle of each field that is imaged, px")
    parser.add_argument("--methods", default="", metavar="NAME,...", help="only these classical")
    parser.add_argument("--no-figures", action="store_true", help="tables only: it is faster")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one a core)")
    parser.add_argument("--data-set", default="cric", help="name of the data set, or its .toml")
    options = parser.parse_args(arguments)
    if options.patches < 1 or options.jobs < 0 or min(options.depths) <= 0:
        raise UsageError("--patches, --depths and --jobs must be above 0; see --help.")
    if not 1 <= options.seeds <= len(SEEDS) or (options.side or LEAST_SIDE) < LEAST_SIDE:
        raise UsageError(
            f"--seeds must be 1 to {len(SEEDS)}, --side {LEAST_SIDE} or more; see --help."
        )
    return Request(
        tuple(options.models),
        options.data,
        options.out,
        options.depths,
        drawn=options.drawn,
        patches=options.patches,
        jobs=options.jobs,
        data_set=options.data_set,
        unseen=tuple(options.unseen),
        stacks=tuple(options.stack),
        seeds=options.seeds,
        side=options.side,
        methods=tuple(filter(None, options.methods.split(","))),
        figures=not options.no_figures,
        beside=options.beside,
        command=shlex.join(["focusfuse", "evaluate", *arguments]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation from a shell and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        request = parse(sys.argv[1:] if arguments is None else arguments)
        findings = evaluate(request)
    except FocusFuseError as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(bars_table(findings.bars()).markdown())  # noqa: T201
    print(f"wrote {request.out / 'index.html'}")  # noqa: T201
    if request.figures and not can_draw():
        log.warning("no figures: install %s, or napari-focusfuse[evaluate], to have them", PACKAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
