"""The runs this user started or opened, and what was asked about them; kept between sessions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

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
    table, name = _read(), str(folder.absolute())
    table["runs"] = [name, *(other for other in table["runs"] if other != name)][:MOST]
    _write(table)


def may_go_on(folder: Path) -> bool:
    """Tell whether the user said that this run shall go on without the window."""
    return str(folder.absolute()) in _read()["unattended"]


def let_go_on(folder: Path) -> None:
    """Note that the user said so."""
    table, name = _read(), str(folder.absolute())
    table["unattended"] = [name, *(other for other in table["unattended"] if other != name)][:MOST]
    _write(table)


def _read() -> dict[str, list[str]]:
    try:
        found: Any = json.loads((state_folder() / "runs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    table = found if isinstance(found, dict) else {}
    return {key: _names(table.get(key)) for key in ("runs", "unattended")}


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
