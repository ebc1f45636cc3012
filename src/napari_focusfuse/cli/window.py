"""Open napari on files, in a process of its own: the command line itself never imports it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .terminal import say

_TOOLKITS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def why_no_window() -> str | None:
    """Return why no window can be opened here, or None if one can."""
    needs_server = sys.platform not in ("win32", "darwin")
    if needs_server and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    if not any(importlib.util.find_spec(name) for name in _TOOLKITS):
        return "no window toolkit is installed; pip install 'napari-focusfuse[all]'"
    return None


def open_window(files: Sequence[Path], log: Path) -> None:
    """Start napari on the files and return at once, or say why it was not started.

    Parameters
    ----------
    files
        What napari opens.
    log
        Where what napari prints is kept.
    """
    reason = why_no_window()
    if reason is not None:
        say(f"The window was not opened: {reason}.")
        return
    # -P: a file of the current folder must not take the place of a module.
    command = [sys.executable, "-P", "-m", "napari", "--plugin", "napari-focusfuse"]
    with log.open("w", encoding="utf-8") as output:
        subprocess.Popen(
            [*command, *(str(file) for file in files)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in this shell is not meant for the window (POSIX; without effect elsewhere).
            start_new_session=True,
        )
    say(f"napari is opening the results; what it prints goes to {log}.")
