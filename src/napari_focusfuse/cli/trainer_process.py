"""The trainer's programs, each in a process of its own: the command line never imports them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence


def run_trainer(
    arguments: Sequence[str], program: str = "", on_interrupt: Callable[[], None] | None = None
) -> int:
    """Run a program of the trainer, let it speak to the terminal, and return its exit code.

    Parameters
    ----------
    arguments
        What follows the program's name.
    program
        Which of the trainer's programs, such as ``"evaluate"``; empty: the trainer itself.
    on_interrupt
        What the first Ctrl-C means, which the program itself does not see; a second one ends the
        program.  None: both are interrupted.
    """
    module = ".".join(filter(None, ("focusfuse_training", program)))
    # -P: a file of the current folder must not take the place of a module.
    command = [sys.executable, "-P", "-m", module, *arguments]
    interrupts = 0
    with _started(command, deaf=on_interrupt is not None) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                interrupts += 1
                if on_interrupt is not None and interrupts == 1:
                    on_interrupt()
                elif on_interrupt is not None:
                    process.terminate()
                continue
            return code if code >= 0 else 128 - code


def _started(command: Sequence[str], *, deaf: bool) -> subprocess.Popen[bytes]:
    """Start a process, ``deaf`` to the Ctrl-C that a terminal sends to everybody in it."""
    if not deaf:
        return subprocess.Popen(command)
    if sys.platform == "win32":
        return subprocess.Popen(command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a new process inherits
    try:
        return subprocess.Popen(command)
    finally:
        signal.signal(signal.SIGINT, before)
