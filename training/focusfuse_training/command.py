"""What the programs that print tables have in common: their command line and their folder."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from napari_focusfuse.slide import FocusFuseError


class UsageError(FocusFuseError, ValueError):
    """The options of the command are not understood."""

    exit_code = 1


class OutputError(FocusFuseError, OSError):
    """The results cannot be written."""

    exit_code = 5


class Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong, as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        """Raise the sentence.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(f"{self.prog}: {message}; see --help.")


def make_folder(out: Path) -> None:
    """Make a folder for the results.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None


def write_files(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, each under its name.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    try:
        for name, content in contents.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise _unwritable(out, error) from None


def _unwritable(out: Path, error: OSError) -> OutputError:
    return OutputError(f"{out} cannot be written ({error.strerror}); choose another --out.")


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of an option such as ``4,8``.

    Raises
    ------
    ValueError
        If one of them is none.
    """
    return tuple(float(part) for part in text.split(","))


def finite(value: Any) -> Any:
    """Return a tree of numbers with None for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
