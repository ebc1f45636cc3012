"""``focusfuse train``: start a training, or go on with one, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_focusfuse.training_run import TrainingRun

from .options import DeviceOption, UsageError
from .terminal import warn
from .trainer_process import run_trainer


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN", help="A recipe's name or file, or the folder of a run to go on."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="RUN", help="Folder of a new run.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="A slide, a folder of slides or of the data set's images, or a slides.toml.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for patches (default: in the run)."),
    ] = None,
    device: DeviceOption = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe."),
    ] = None,
) -> None:
    """Train a model, or go on with a run.  Ctrl-C stops it and keeps its weights."""
    goes_on = (Path(recipe) / "config.toml").is_file()
    if goes_on and (out or data or cache or settings):
        raise UsageError(
            f"{recipe} is a run, which goes on as it began; leave --out, --data, --cache and --set "
            "out, or start a new run from a recipe."
        )
    if not goes_on and out is None:
        raise UsageError(
            f"{recipe} is no run to go on with; say with --out where a new one shall be."
        )
    given = [("--out", out), ("--cache", cache), *(("--data", path) for path in data or [])]
    words = [f"{option}={path}" for option, path in given if path is not None]
    words += [f"--set={setting}" for setting in settings or []]
    words += ["--device", device, "--", recipe]
    run = TrainingRun(out or Path(recipe))
    run.clear_stop()  # the next one is for the trainer that starts now

    def stop() -> None:
        warn("stopping with the step in hand; Ctrl-C again to end at once")
        run.request_stop()

    code = run_trainer(words, on_interrupt=stop)
    if code:
        raise typer.Exit(code)
