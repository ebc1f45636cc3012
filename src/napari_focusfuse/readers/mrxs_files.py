"""The files beside a ``.mrxs``: named by the slide itself, so none is opened outside its folder.

Ranges are read with ``pread``, never through a memory map: a file that is cut short while it is
mapped ends the process, and a map keeps the file busy as long as an array looks at it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from napari_focusfuse.slide import SlideError

from .faults import damaged
from .unchanged import Unchanged

_MAX_OPEN = 64
"""Slides have up to some thousand data files, and a process may open about a thousand."""

_FORBIDDEN = frozenset('/\\:\0*?"<>|')


@dataclass(frozen=True)
class StoredFile:
    """A file of a slide, and how long it was when the slide was opened."""

    path: Path
    size: int


class SlideFolder:
    """The folder of a slide: which files it holds, and whether they may be opened.

    Parameters
    ----------
    slide
        The ``.mrxs`` file.
    """

    def __init__(self, slide: Path) -> None:
        self.slide = slide
        self.path = slide.with_suffix("")
        self.unchanged = Unchanged(slide, [])
        """What the files were when they were first named."""
        self._root = self.path.resolve()

    def file(self, name: str) -> StoredFile:
        """Return a file that a slide names.

        Raises
        ------
        SlideError
            If it lies outside the folder, is missing, or is no file.
        """
        shown = name[:60]
        path = self.path / name if _is_plain(name) else self.path
        try:
            status = path.lstat()
            inside = path != self.path
            if stat.S_ISLNK(status.st_mode):
                inside = path.resolve().parent == self._root
                status = path.stat()
        except FileNotFoundError:
            raise SlideError(
                f"{self.slide.name} is damaged or incomplete: {shown} is missing; copy the whole "
                "folder of the same name next to the .mrxs file."
            ) from None
        if not inside:
            raise SlideError(
                f"{self.slide.name} refers to a file outside its folder ({shown!r}), so it is not "
                "opened; copy the slide again from where it was scanned."
            )
        if not stat.S_ISREG(status.st_mode):
            raise damaged(self.slide, f"{shown} is no file")
        self.unchanged.watch(path)
        return StoredFile(path, status.st_size)


def _is_plain(name: str) -> bool:
    return name.strip(" .") != "" and len(name) < 256 and not _FORBIDDEN & set(name)


@dataclass
class _Handle:
    file: BinaryIO
    users: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Where ``pread`` is missing."""


class RangeReader:
    """Byte ranges of the files of a slide, at most 64 open at once; safe from several threads.

    Parameters
    ----------
    folder
        The slide, which has named the files.
    """

    def __init__(self, folder: SlideFolder) -> None:
        self._slide = folder.slide
        self._handles: OrderedDict[Path, _Handle] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes.

        Raises
        ------
        SlideError
            If the file ends before, or the slide was closed.
        """
        handle = self._taken(path)
        try:
            data = _pread(handle, length, offset)
        finally:
            self._release(handle)
        if len(data) != length:
            raise damaged(
                self._slide, f"{path.name} ends before byte {offset + length}, where data should be"
            )
        return data

    def close(self) -> None:
        """Close the files; those that a thread still reads close when it is done."""
        with self._lock:
            self._closed = True
            for handle in self._handles.values():
                if not handle.users:
                    handle.file.close()

    def _taken(self, path: Path) -> _Handle:
        """Return an open file, which stays open until it is released."""
        with self._lock:
            if self._closed:
                raise SlideError(f"{self._slide.name} is closed; open it again.")
            handle = self._handles.get(path)
            if handle is None:
                handle = self._handles[path] = _Handle(path.open("rb", buffering=0))
            else:
                self._handles.move_to_end(path)
            handle.users += 1
            self._close_idle()
            return handle

    def _release(self, handle: _Handle) -> None:
        with self._lock:
            handle.users -= 1
            if self._closed and not handle.users:
                handle.file.close()

    def _close_idle(self) -> None:
        excess = len(self._handles) - _MAX_OPEN
        if excess > 0:
            idle = [path for path, handle in self._handles.items() if not handle.users]
            for path in idle[:excess]:
                self._handles.pop(path).file.close()


_positioned: Callable[[int, int, int], bytes] | None = getattr(os, "pread", None)
"""None on Windows, where a handle has one position and is read in turns."""


def _pread(handle: _Handle, length: int, offset: int) -> bytes:
    """Read until all is there or the file ends: network drives hand out less than is asked for."""
    found = b""
    while len(found) < length:
        part = _once(handle, length - len(found), offset + len(found))
        if not part:
            break
        found = found + part if found else part
    return found


def _once(handle: _Handle, length: int, offset: int) -> bytes:
    if _positioned is not None:
        return _positioned(handle.file.fileno(), length, offset)
    with handle.turn:
        handle.file.seek(offset)
        return handle.file.read(length)
