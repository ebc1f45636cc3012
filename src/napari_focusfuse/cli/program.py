"""The program: its commands, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from napari_focusfuse.slide import FocusFuseError

from .benchmarking import benchmark
from .comparing import compare
from .demo import demo
from .evaluating import evaluate
from .exporting import convert, export
from .fusing import fuse, mask
from .inspecting import inspect
from .listing import methods, models
from .options import UsageError
from .terminal import complain
from .training import train

USAGE, BAD_INPUT, NO_ACCESS, INTERRUPTED = 1, 4, 5, 130

_NO_ACCESS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.EEXIST, errno.ENOTDIR),
}

app = typer.Typer(
    name="focusfuse",
    help="All-in-focus images from the focus layers of a cytology slide.  Research use only.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    *(demo, inspect, fuse, mask, compare, methods, models, train, evaluate, benchmark),
    *(export, convert),
)
for _command in _COMMANDS:
    app.command()(_command)


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (or FOCUSFUSE_DEBUG=1).")
    ] = False,
) -> None:
    if show_version:
        typer.echo(f"focusfuse {version('napari-focusfuse')}")
    elif context.invoked_subcommand is None:
        names = ", ".join(command.__name__ for command in _COMMANDS)
        raise UsageError(f"No command was given; choose {names}, or see focusfuse --help.")


def main() -> None:
    """Run the program with the arguments of the process, and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 usage, 4 bad input, 5 no space or access.

    Parameters
    ----------
    arguments
        What follows ``focusfuse`` on the command line.
    """
    try:
        code = app(args=list(arguments), prog_name="focusfuse", standalone_mode=False)
        if code == INTERRUPTED:  # typer's answer to Ctrl-C
            complain("Interrupted.")
    except Exception as error:  # noqa: BLE001 - the last stop before the user: a sentence, never a traceback
        if "--debug" in arguments or os.environ.get("FOCUSFUSE_DEBUG"):
            traceback.print_exc()
        sentence, code = explain(error)
        complain(sentence)
    return int(code or 0)


def explain(error: Exception) -> tuple[str, int]:
    """Return the sentence for the user and the exit code of an error."""
    if isinstance(error, typer.TyperException):
        message = error.format_message().rstrip(".")
        return f"{message}; see focusfuse --help.", USAGE
    if isinstance(error, FocusFuseError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in _NO_ACCESS:
        place = error.filename or "the output"
        return f"{place}: {error.strerror}; choose another place.", NO_ACCESS
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}.", BAD_INPUT
    if isinstance(error, MemoryError):
        return "Not enough memory for this much at once; choose a smaller --region.", BAD_INPUT
    return (
        f"Unexpected {type(error).__name__}: {error} This is a fault of the program; run again "
        "with focusfuse --debug and report what it prints.",
        USAGE,
    )
