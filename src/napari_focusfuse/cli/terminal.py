"""What the program says: data on standard output, all else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Result = TypeVar("Result")

_PIPE_WIDTH = 200
"""Columns for a file or a pipe, so that nothing is folded there."""


def messages() -> Console:
    """Return the console for progress, warnings and errors: standard error as it is now."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress_bar(*, clock: bool = True) -> Progress:
    """Return a bar on standard error; nothing is drawn unless that is a terminal.

    ``clock``: whether the bar estimates the time left by itself.
    """
    console = messages()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *((TimeRemainingColumn(),) if clock else ()),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def complain(sentence: str) -> None:
    """Print an error on standard error, on one line."""
    typer.echo(f"focusfuse: {' '.join(sentence.split())}", err=True)


def warn(sentence: str) -> None:
    """Print a warning on standard error, on one line."""
    complain(f"warning: {sentence}")


def say(sentence: str) -> None:
    """Print a line on standard output."""
    typer.echo(sentence)


def print_json(value: dict[str, Any]) -> None:
    """Print one object on standard output; numbers that are none become null."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def with_bar(title: str, steps: Generator[tuple[int, int], None, Result]) -> Result:
    """Run steps to their end with a bar on standard error; each yields (done, in all)."""
    with progress_bar() as bar:
        task = bar.add_task(title)
        while True:
            try:
                done, total = next(steps)
            except StopIteration as finished:
                return finished.value  # type: ignore[no-any-return]
            bar.update(task, completed=done, total=total)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
) -> None:
    """Print a table on standard output, every column as wide as it needs."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)
