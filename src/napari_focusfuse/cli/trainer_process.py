"""The trainer's programs, each in a process of its own: the command line never imports them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def run_trainer(arguments: Sequence[str], program: str = "") -> int:
    """Run a program of the trainer, let it speak to the terminal, and return its exit code.

    Parameters
    ----------
    arguments
        What follows the program's name.
    program
        Which of the trainer's programs, such as ``"evaluate"``; empty: the trainer itself.
    """
    module = ".".join(filter(None, ("focusfuse_training", program)))
    # -P: a file of the current folder must not take the place of a module.
    command = [sys.executable, "-P", "-m", module, *arguments]
    with subprocess.Popen(command) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                # The terminal interrupts the trainer too, which saves before it ends.
                continue
            return code if code >= 0 else 128 - code
