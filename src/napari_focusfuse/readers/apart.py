"""JPEG XR is decoded in another process: a few wrong bytes make its library end the process.

Of tiles with up to five changed bytes about one in several thousand did so (jxrlib 1.1), whatever
was checked before.  The process is started by the first such tile, serves all slides in turn, and
is started again when it dies.  Where trying files in a child is turned off, so is this.
"""

from __future__ import annotations

import atexit
import json
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .probe import MEMORY_LIMIT, is_probing

TIME_LIMIT_S = 10.0
_CHILD = Path(__file__).with_name("apart_child.py")
_MOST_BYTES = 1 << 29


class Worker:
    """A process that decodes, one tile at a time; safe from several threads at once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Return the pixels of a JPEG XR stream.

        Raises
        ------
        ValueError
            If it cannot be decoded, or the process died of it.
        """
        with self._lock:
            process = self._running()
            watch = threading.Timer(TIME_LIMIT_S, process.kill)
            watch.start()
            try:
                return _ask(process, data)
            except (OSError, struct.error) as error:
                self._stop()
                raise ValueError("a JPEG XR tile ended the process that decodes it") from error
            finally:
                watch.cancel()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            folders = json.dumps([folder for folder in sys.path if folder])
            command = [sys.executable, "-I", "-S", str(_CHILD), str(MEMORY_LIMIT), folders]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _ask(process: subprocess.Popen[bytes], data: bytes) -> npt.NDArray[np.uint8]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(struct.pack("<I", len(data)) + data)
    process.stdin.flush()
    done, *shape = struct.unpack("<?3I", process.stdout.read(13))
    length = int(np.prod(shape, dtype=np.int64))
    if length > _MOST_BYTES:
        raise OSError("the answer is too long")
    answer = process.stdout.read(length)
    if len(answer) != length:
        raise OSError("the answer ends early")
    if not done:
        raise ValueError(answer.decode(errors="replace"))
    return np.frombuffer(answer, np.uint8).reshape(shape)


_worker = Worker()
atexit.register(_worker.close)


def decode_jpeg_xr(data: bytes) -> Any:
    """Decode a JPEG XR stream, in another process unless that is turned off."""
    if is_probing():
        return _worker.decode(data)
    import imagecodecs

    return imagecodecs.jpegxr_decode(data)
