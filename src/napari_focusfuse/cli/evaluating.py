"""``focusfuse evaluate``: models beside classical methods, as tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .trainer_process import run_trainer


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="RUN|NAME|FILE...", help="Runs, shipped models, or model files."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Where tables and models go.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The data set's images, or a run whose test split to take "
            "(default: the first run that is evaluated).",
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option("--depths", metavar="UM,...", help="Heights of simulated cells, +- so much."),
    ] = None,
    drawn: Annotated[bool, typer.Option("--drawn", help="Score on drawn smears instead.")] = False,
    patches: Annotated[
        int | None, typer.Option("--patches", metavar="N", help="Images of the tables (30).")
    ] = None,
    unseen: Annotated[
        list[str] | None,
        typer.Option(
            "--unseen",
            metavar="DATA_SET=DIR",
            help="Score on another data set's test fields as well, as in lbc=images/.",
        ),
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(
            "--stack",
            metavar="NAME=PATH",
            help="Score on a real stack as well: its middle layers against the fusion of all.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", help="Stacks of each field, 1 to 5 (5).")
    ] = None,
    side: Annotated[
        int | None,
        typer.Option("--side", metavar="PX", help="Middle of each field that is imaged (all)."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="NAME,...", help="Only these classical methods."),
    ] = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Tables only: it is faster.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Processes (default: one a core).")
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            "--beside",
            metavar="SCORES.json",
            help="Let the models of an earlier evaluation on the same images join the tables.",
        ),
    ] = None,
    data_set: Annotated[
        str, typer.Option("--data-set", metavar="NAME|TOML", help="Whose images --data holds.")
    ] = "cric",
) -> None:
    """Score models beside classical methods: Tables 1 to 3, curves, pictures."""
    arguments = [*models, "--out", str(out), "--data-set", data_set]
    options = {
        "--data": data,
        "--depths": depths,
        "--patches": patches,
        "--seeds": seeds,
        "--side": side,
        "--methods": methods,
        "--jobs": jobs,
        "--beside": beside,
    }
    for option, value in options.items():
        if value is not None:
            arguments += [option, str(value)]
    for option, named in (("--unseen", unseen), ("--stack", stack)):
        for word in named or ():
            arguments += [option, word]
    if no_figures:
        arguments.append("--no-figures")
    if drawn:
        arguments.append("--drawn")
    raise typer.Exit(run_trainer(arguments, "evaluate"))
