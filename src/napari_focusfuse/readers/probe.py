"""Files are tried in another process first: some C libraries end the process on a damaged file.

OpenSlide gives up the whole process when memory for a claimed size cannot be had, so no
``try`` in a viewer helps.  A child with little memory and little time opens the file and reads a
corner and the middle of every level; what dies there is refused here.  libCZI is tried the same
way.  Formats that Python reads, or whose sizes are compared with the file before a codec sees them
(TIFF, DICOM, Zarr, pictures), need no child.

What a child found is remembered as long as the process lives and the file stays the same.
``FOCUSFUSE_PROBE=0`` in the environment, or ``open_slide(path, probe=False)``, leaves it out.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_focusfuse.slide import SlideError

VARIABLE = "FOCUSFUSE_PROBE"
MEMORY_LIMIT = 2 << 30
"""Bytes of address space of the child, where the system can limit it."""
TIME_LIMIT_S = 30.0
_CHILD = Path(__file__).with_name("probe_child.py")
_REMEMBERED = 1024
_COMPANIONS = 4096
_LOG = logging.getLogger(__name__)
_chosen: ContextVar[bool | None] = ContextVar("probe", default=None)


@dataclass(frozen=True)
class Finding:
    """What a child said of a file."""

    format: str | None = None
    """What the library calls the format, None if it does not know the file."""
    fault: str = ""
    """How the child ended, if it did."""


class _Memory:
    """The findings of the most recent files."""

    def __init__(self) -> None:
        self._findings: OrderedDict[Any, Finding] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Finding | None:
        with self._lock:
            return self._findings.get(key)

    def put(self, key: Any, finding: Finding) -> None:
        with self._lock:
            self._findings[key] = finding
            while len(self._findings) > _REMEMBERED:
                self._findings.popitem(last=False)


_memory = _Memory()


@contextmanager
def probing(enabled: bool | None) -> Iterator[None]:
    """Turn the probe on or off inside a ``with``; None leaves it to the environment."""
    token = _chosen.set(enabled)
    try:
        yield
    finally:
        _chosen.reset(token)


def is_probing() -> bool:
    """Tell whether files are tried in a child, which needs a Python to start."""
    wanted = _chosen.get()
    if wanted is None:
        wanted = os.environ.get(VARIABLE, "1") != "0"
    return wanted and bool(sys.executable) and not getattr(sys, "frozen", False)


def probe(path: Path, library: str) -> Finding | None:
    """Open a file in a child, or recall what one said of it.

    Parameters
    ----------
    path
        The file.
    library
        ``"openslide"`` or ``"czi"``.

    Returns
    -------
    Finding or None
        None if probing is turned off, or the child could not be started.

    Raises
    ------
    SlideError
        If the child died or took too long.
    """
    if not is_probing():
        return None
    key = library, _identity(path)
    finding = _memory.get(key)
    if finding is None:
        finding = _ask_child(path, library)
        if finding is None:
            return None
        _memory.put(key, finding)
    if finding.fault:
        raise SlideError(
            f"{path.name} is not opened: the process that tries files first {finding.fault}, so "
            "the file is damaged or too large; copy or export it again."
        )
    return finding


def _ask_child(path: Path, library: str) -> Finding | None:
    folders = json.dumps([folder for folder in sys.path if folder])
    command = [sys.executable, "-I", "-S", str(_CHILD), library, str(MEMORY_LIMIT), folders]
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would open a console
    try:
        done = subprocess.run(
            [*command, str(path.absolute())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIME_LIMIT_S,
            check=False,
            creationflags=hidden,
        )
    except subprocess.TimeoutExpired:
        return Finding(fault=f"was still busy after {TIME_LIMIT_S:g} seconds")
    except OSError as error:
        _LOG.warning("Slides are opened without a trial: %s", error)
        return None
    if done.returncode == 0:
        answer = json.loads(done.stdout)
        if "unavailable" in answer:
            _LOG.warning("Slides are opened without a trial: %s", answer["unavailable"])
            return None
        return Finding(answer["format"])
    _LOG.info("%s: %s", path, done.stderr.decode(errors="replace").strip()[-500:])
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
    return Finding(fault=f"died of it ({how})")


def _identity(path: Path) -> tuple[Any, ...]:
    """Return what changes when a file, or one in the folder of the same name, is another one."""
    files = [path]
    folder = path.with_suffix("")  # MIRAX keeps its data there
    if path.suffix and folder.is_dir():
        files += sorted(folder.iterdir())[:_COMPANIONS]
    facts = []
    for file in files:
        status = file.stat()
        facts.append((file.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return path.absolute(), tuple(facts)
