"""``OUT.json``: what a finished output was made of, with hashes to check it by."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_focusfuse.writer import OutputError, sync_folder, unwritable

from .job import RunIdentity
from .journal import Journal
from .shares import Output
from .status import read_report, report_path

_PACKAGES = ("napari-focusfuse", "numpy", "torch", "imagecodecs", "tifffile", "zarr")
_READ = 1 << 22


def write_report(
    identity: RunIdentity,
    journal: Journal,
    outputs: Sequence[Output],
    timing: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the report beside the first output and return it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    notes = [entry.notes for entry in journal.entries.values()]
    report = {
        "run": identity.hash,
        "slide": identity.slide,
        "parameters": dict(identity.parameters),
        "outputs": {
            output.name: {
                "file": output.path.name,
                "bytes": sum(file.stat().st_size for file in _files(output.path)),
                "sha256": file_hash(output.path),
            }
            for output in outputs
        },
        "blocks": {
            f"{block.row},{block.column}": entry.hash
            for block, entry in sorted(
                journal.entries.items(), key=lambda pair: (pair[0].row, pair[0].column)
            )
        },
        "tiles": {
            "computed": sum(note["tiles"] - note["empty"] for note in notes),
            "empty": sum(note["empty"] for note in notes),
        },
        "versions": _versions(),
        "timing": dict(timing),
    }
    path = report_path(journal.output)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritable(path, error) from None
    return report


def finished_report(outputs: Sequence[Path], run: str) -> dict[str, Any] | None:
    """Return the report of outputs that this very run has finished already, or None.

    Sizes are compared, not hashes: they would take as long as reading everything.
    """
    report = read_report(outputs[0])
    if report is None or report.get("run") != run:
        return None
    try:
        sizes = {entry["file"]: entry["bytes"] for entry in report["outputs"].values()}
        same = all(
            sizes[path.name] == sum(file.stat().st_size for file in _files(path)) > 0
            for path in outputs
        )
    except (OSError, KeyError, TypeError, AttributeError):
        return None
    return report if same else None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and hashes.

    Raises
    ------
    OutputError
        If it cannot be read.
    """
    try:
        if path.is_file():
            return _sha256(path).hexdigest()
        digest = hashlib.sha256()
        for file in _files(path):
            name = file.relative_to(path).as_posix()
            digest.update(f"{_sha256(file).hexdigest()}  {name}\n".encode())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read back ({error.strerror}); check the disk."
        ) from None
    return digest.hexdigest()


def _sha256(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_READ):
            digest.update(chunk)
    return digest


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.exists() else []


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "system": platform.system()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
