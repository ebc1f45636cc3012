"""Commands that run in a process and session of their own, so that the window may close."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NICE = 10
"""How far such a process steps back where others want the processor."""


def start_apart(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command that goes on without this process; what it says is added to a log.

    Raises
    ------
    OSError
        If it cannot be started, or the log cannot be written.
    """
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        alone = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        options = {"creationflags": alone | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )
    if sys.platform != "win32":
        # The window goes first: all processors busy, it would stutter.
        os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
    return child
