"""Where an image may be written, and how it gets there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_focusfuse.slide import FocusFuseError

FOLDER_SUFFIX = ".ome.zarr"
SUFFIXES = (".ome.tif", ".ome.tiff", ".png", FOLDER_SUFFIX)


class OutputError(FocusFuseError, OSError):
    """An image cannot be written, or not there."""

    exit_code = 5


class OutputFormatError(OutputError):
    """The name of the output, or the compression, is none we know."""

    exit_code = 1


def check_output(
    path: str | Path, *, overwrite: bool = False, suffixes: tuple[str, ...] = SUFFIXES
) -> None:
    """Check, before hours of work, that a file can be written there: an image, unless told.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, or the file exists and must not be replaced.
    OutputFormatError
        If the suffix is none of ``suffixes``.
    """
    path = Path(path)
    if not path.name.lower().endswith(suffixes):
        raise OutputFormatError(
            f"{path.name} has no suffix that can be written; choose {', '.join(suffixes)}."
        )
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; make it, or choose another.")
    if is_folder(path):
        _check_replaceable(path)
    elif path.is_dir():
        raise OutputError(f"{path} is a folder; choose the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; choose another name, or --overwrite.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise unwritable(path, error) from None


def is_folder(path: Path) -> bool:
    """Tell by its name whether an output will be a folder."""
    return path.name.lower().endswith(FOLDER_SUFFIX)


def _check_replaceable(path: Path) -> None:
    """Refuse to replace what is no Zarr: a folder may hold anything."""
    if path.exists() and not (path / "zarr.json").is_file() and not (path / ".zgroup").is_file():
        raise OutputError(f"{path} exists and is no OME-Zarr; choose another name.")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give the name of a file beside the target, which replaces it at the end of the block.

    Nobody ever sees half an image: if the block fails, the target is as it was.  What a killed
    process leaves behind is called ``.<name>.<process id>.partial``.

    Raises
    ------
    OutputError
        If the system refuses to write there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise (error if isinstance(error, OutputError) else unwritable(path, error)) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make sure that a new name in a folder outlives a loss of power, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return the error that says, in one sentence, why a file cannot be written."""
    reason = error.strerror or str(error) or type(error).__name__
    found = OutputError(
        f"{path} cannot be written ({reason}); choose another folder, or make room."
    )
    found.errno = error.errno
    return found
