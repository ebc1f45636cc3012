"""A file that says which process works on something, so that no second one does."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from napari_focusfuse.slide import FocusFuseError

BEAT_SECONDS = 30.0
"""A lock's owner renews it at least this often."""
SILENT_SECONDS = 3600.0
"""A lock from another machine that nobody renewed for so long is taken over."""


class BusyError(FocusFuseError, OSError):
    """Another process works on this."""

    exit_code = 3


class ProcessLock:
    """A lock file; the system lets go of it when its process ends, however that happens.

    Where the file system knows no locks (some network drives), process id, machine and age decide.

    Parameters
    ----------
    path
        The lock file.
    work
        What it protects, as messages name it.
    """

    def __init__(self, path: Path, work: str) -> None:
        self._path, self._work = path, work
        self._handle: int | None = None
        self._renewed = 0.0

    def acquire(self) -> None:
        """Take the lock; one left by a process that is gone is taken over.

        Raises
        ------
        BusyError
            If another process holds it.
        OSError
            If the file cannot be written.
        """
        while self._handle is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not _system_lock(handle) or lock_owner(self._path) not in (None, os.getpid()):
                    raise self._busy()
                if _still_there(handle, self._path):
                    os.ftruncate(handle, 0)
                    os.write(handle, _identity())
                    self._handle, self._renewed = handle, time.monotonic()
            finally:
                if self._handle is None:
                    os.close(handle)

    def renew(self) -> None:
        """Say to other machines that this process is alive; does nothing too often."""
        if time.monotonic() - self._renewed > BEAT_SECONDS:
            self._renewed = time.monotonic()
            with suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Let go of the lock and remove its file."""
        if self._handle is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> ProcessLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _busy(self) -> BusyError:
        try:
            held = json.loads(self._path.read_text(encoding="utf-8"))
            who = f"Process {held['pid']} on {held['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "Another process"
        return BusyError(
            f"{who} is writing {self._work}; wait for it, stop it, or choose another output. If it "
            f"is long dead, delete {self._path}."
        )


def lock_owner(path: Path) -> int | None:
    """Return the id of the living process that a lock file names, or None.

    A process of another machine counts as alive for as long as its lock is renewed.
    """
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        pid, host, start = int(lock["pid"]), lock["host"], lock["start"]
        silent = time.time() - path.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host != socket.gethostname():
        return pid if silent < SILENT_SECONDS else None
    return pid if is_alive(pid) and started(pid) == start else None


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine runs."""
    if os.name == "nt":  # there os.kill(pid, 0) would end the process
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # type: ignore[attr-defined,unused-ignore]
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat_fields(pid)[:1] != ["Z"]


def started(pid: int) -> str:
    """Return when a process began, so that a reused number is not taken for the same one.

    Only Linux says so; elsewhere it is empty.
    """
    found = _stat_fields(pid)
    return found[19] if len(found) > 19 else ""


def _stat_fields(pid: int) -> list[str]:
    """Return Linux' fields of a process after its name, or nothing elsewhere."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def _identity() -> bytes:
    pid = os.getpid()
    return json.dumps({"pid": pid, "host": socket.gethostname(), "start": started(pid)}).encode()


def _still_there(handle: int, path: Path) -> bool:
    """Tell whether the open file is still the one of that name: its last owner may remove it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _system_lock(handle: int) -> bool:
    """Lock an open file without waiting; True where the file system knows no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
