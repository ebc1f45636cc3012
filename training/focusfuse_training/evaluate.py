"""Score models beside classical methods: ``python -m focusfuse_training.evaluate --help``.

Writes ``tables.md``, ``tables.csv``, ``index.html``, ``scores.json``, the figures, and, for each
model, a copy to ship: float16 weights with the scores in the card.  The scores are those of the
float16 weights.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_focusfuse.benchmark_definition import BORDER_PX, DEPTHS_UM
from napari_focusfuse.metrics import VARIANTS
from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_run import TrainingRun

from .candidates import Candidate, adopt, find_candidates, note_scores
from .command import Parser, UsageError, make_folder, write_files
from .controls import fit_threshold
from .figures import PACKAGE, can_draw, figures
from .material import Material, Task, of_data_set, of_run
from .pages import Report
from .scoring import Scorer, scoring
from .summary import Condition
from .tables import tables, to_csv

log = logging.getLogger(__name__)

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
    beside: Path | None = None
    """An earlier ``scores.json`` on the same images, whose models join the tables."""
    command: str = "focusfuse evaluate"


def evaluate(request: Request) -> None:
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
    scorer = Scorer(candidates)
    scores: dict[str, Any] = {"sharp": scorer.change_on_sharp(material.sharp)}
    log.info("mean change of sharp input: %s", scores["sharp"])
    conditions: list[Condition] = []
    with scoring(candidates, request.jobs or os.cpu_count() or 1, scorer) as score:
        for name, tasks in material.conditions.items():
            threshold = _threshold(material.tuning[name]) if scorer.detectors else None
            found_here = Condition.of(name, scorer.rows, list(score(tasks, threshold)))
            if name in earlier:
                found_here = found_here.beside(earlier[name])
            conditions.append(found_here)
            scores[name] = found_here.as_json()
            log.info("%s: %s %s", name, scores[name]["error_ratio"], scores[name]["masks"])
            head = (*_head(material, conditions, candidates), *_said(earlier, conditions))
            _write(request, candidates, head, conditions, scores)
            for candidate in candidates:
                note_scores(candidate, _of_model(candidate.label, scores))


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
        return of_run(run, request.depths, request.patches, drawn=request.drawn)
    return of_data_set(request.data_set, data, request.depths, request.patches, drawn=request.drawn)


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


def _said(earlier: Mapping[str, Any], conditions: Sequence[Condition]) -> Iterator[str]:
    """Yield what the earlier evaluation said of the models that join the tables."""
    if not earlier:
        return
    yield f"Rows of an earlier evaluation of the same images: `{earlier['about']['command']}`"
    labels = {row.name for c in conditions for row in c.rows if row.name not in c.whole}
    for sentence in earlier["about"]["head"]:
        if sentence.partition(":")[0] in labels:
            yield sentence


def _threshold(tasks: Sequence[Task]) -> float | None:
    """Fit the control's threshold on training stacks of which every pixel is known."""
    samples = [sample for sample in (task.render() for task in tasks) if sample.known.all()]
    if not samples:
        return None
    return fit_threshold([s.layer0 for s in samples], [s.blurred for s in samples])


def _write(
    request: Request,
    candidates: Sequence[Candidate],
    head: Sequence[str],
    conditions: Sequence[Condition],
    scores: Mapping[str, Any],
) -> None:
    drawable = can_draw()
    sections = tuple(
        (
            condition.name,
            tuple(tables(condition, candidates)),
            tuple(figures(condition)) if drawable else (),
        )
        for condition in conditions
    )
    report = Report("Evaluation", tuple(head), request.command, sections)
    about = {"head": list(head), "command": request.command}
    texts = {
        "tables.md": report.markdown(),
        "tables.csv": to_csv([table for _, found, _ in sections for table in found]),
        "index.html": report.html(),
        "scores.json": json.dumps(_finite({"about": about, **scores}), indent=1) + "\n",
    }
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {figure.name: figure.content for *_, drawn in sections for figure in drawn}
    write_files(request.out, contents)


def _head(
    material: Material, conditions: Sequence[Condition], candidates: Sequence[Candidate]
) -> tuple[str, ...]:
    squares = [square for c in material.conditions.values() for t in c for square in t.squares]
    sides = sorted({square.side for square in squares})
    count = sum(len(task.squares) for task in next(iter(material.conditions.values())))
    size = " or ".join(map(str, sides))
    sentences = [
        f"Data: {material.specimens}",
        f"Conditions: {', '.join(condition.name for condition in conditions)} (simulated heights "
        "spread over plus and minus so much)",
        f"Images: {count} squares of {size} px a condition; a cell is the mean over them ± "
        "their sample standard deviation",
        f"Whole stacks are scored without their outer {BORDER_PX} px where they are simulated",
        *(f"{name}: {text}" for name, text in VARIANTS.items()),
    ]
    return (*sentences, *(candidate.sentence() for candidate in candidates))


def _of_model(label: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model's card says of its scores."""
    found: dict[str, Any] = {}
    if label in scores["sharp"]:
        found["mean change of sharp input, grey levels"] = scores["sharp"][label]
    for condition, parts in scores.items():
        for part in ("table", "error_ratio", "masks") if condition != "sharp" else ():
            if label in parts[part]:
                found[f"{part}, {condition}"] = parts[part][label]
    command = "focusfuse evaluate MODEL... --data DIR --out DIR"
    return {"benchmark": _finite(found), "command": command}


def _finite(value: Any) -> Any:
    """Return a tree of numbers with None for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------------- command line


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


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
        "--depths", type=_numbers, default=DEPTHS_UM, metavar="UM,...", help="as in 4,8"
    )
    parser.add_argument("--drawn", action="store_true", help="score on drawn smears instead")
    parser.add_argument("--patches", type=int, default=PATCHES, help="images of the tables")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="SCORES.json",
        help="let the models of an earlier evaluation on the same images join the tables",
    )
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one a core)")
    parser.add_argument("--data-set", default="cric", help="name of the data set, or its .toml")
    options = parser.parse_args(arguments)
    if options.patches < 1 or options.jobs < 0 or min(options.depths) <= 0:
        raise UsageError("--patches, --depths and --jobs must be above 0; see --help.")
    return Request(
        tuple(options.models),
        options.data,
        options.out,
        options.depths,
        drawn=options.drawn,
        patches=options.patches,
        jobs=options.jobs,
        data_set=options.data_set,
        beside=options.beside,
        command=shlex.join(["focusfuse", "evaluate", *arguments]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation from a shell and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        request = parse(sys.argv[1:] if arguments is None else arguments)
        evaluate(request)
    except FocusFuseError as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(f"wrote {request.out / 'index.html'}")  # noqa: T201
    if not can_draw():
        log.warning("no figures: install %s, or napari-focusfuse[evaluate], to have them", PACKAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
