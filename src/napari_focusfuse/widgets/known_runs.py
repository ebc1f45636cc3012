"""The trainings and whole slides this user started or opened; kept between sessions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from napari_focusfuse.whole_slide.journal import read_header

FOLDER_VARIABLE = "FOCUSFUSE_STATE_DIR"
"""Environment variable that names another folder for the list."""

MOST = 20


def state_folder() -> Path:
    """Return the folder in which the platform wants such lists."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "focusfuse"


def known_runs() -> list[Path]:
    """Return the folders of runs that still exist, the one used last first."""
    folders = (Path(name) for name in _read()["runs"])
    return [folder for folder in folders if (folder / "config.toml").is_file()]


def remember(folder: Path) -> None:
    """Put a run's folder first in the list."""
    _put_first("runs", folder)


def known_outputs() -> list[Path]:
    """Return the files that whole slides were fused to here, or half fused, the last one first."""
    outputs = (Path(name) for name in _read()["outputs"])
    return [output for output in outputs if output.exists() or read_header(output) is not None]


def remember_output(output: Path) -> None:
    """Put a whole slide's output first in the list."""
    _put_first("outputs", output)


def may_go_on(folder: Path) -> bool:
    """Tell whether the user said that this run shall go on without the window."""
    return str(folder.absolute()) in _read()["unattended"]


def let_go_on(folder: Path) -> None:
    """Note that the user said so."""
    _put_first("unattended", folder)


def _put_first(key: str, path: Path) -> None:
    table, name = _read(), str(path.absolute())
    table[key] = [name, *(other for other in table[key] if other != name)][:MOST]
    _write(table)


def _read() -> dict[str, list[str]]:
    try:
        found: Any = json.loads((state_folder() / "runs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    table = found if isinstance(found, dict) else {}
    return {key: _names(table.get(key)) for key in ("runs", "unattended", "outputs")}


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _write(table: dict[str, list[str]]) -> None:
    """Write the list; where that is not allowed, the runs are found by opening their folders."""
    try:
        state_folder().mkdir(parents=True, exist_ok=True)
        partial = state_folder() / "runs.json.partial"
        partial.write_text(json.dumps(table, indent=1), encoding="utf-8")
        os.replace(partial, state_folder() / "runs.json")
    except OSError:
        pass
