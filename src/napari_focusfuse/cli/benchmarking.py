"""``focusfuse benchmark``: every method on the same stacks, as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .trainer_process import run_trainer


def benchmark(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Where tables and plots go.")
    ] = Path("focusfuse-benchmark"),
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The CRIC images: adds their held-out fields."),
    ] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", metavar="NAME,...", help="Only these methods.")
    ] = None,
    side: Annotated[
        int | None, typer.Option("--side", metavar="PX", help="Side of a stack (384).")
    ] = None,
    stacks: Annotated[
        int | None, typer.Option("--stacks", metavar="N", help="Stacks of each kind, 1 to 5 (2).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Processes (default: one a core).")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small stacks of one depth; no seconds, no memory.")
    ] = False,
) -> None:
    """Score every method on simulated smears and on real algae; time it, and its memory."""
    options = {
        "--data": data,
        "--methods": methods,
        "--side": side,
        "--stacks": stacks,
        "--jobs": jobs,
    }
    arguments = ["--out", str(out)]
    for option, value in options.items():
        if value is not None:
            arguments += [option, str(value)]
    if quick:
        arguments.append("--quick")
    raise typer.Exit(run_trainer(arguments, "benchmark"))
