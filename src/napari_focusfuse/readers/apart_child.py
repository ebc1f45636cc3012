"""The process that decodes JPEG XR; started by ``apart`` as a script, with no package around.

It reads a length and a stream, and answers with whether it went well, three sides and pixels, or
with (1, 1, length) and a sentence; until its input ends.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import BinaryIO


def limit(memory: int) -> None:
    """Let allocations beyond ``memory`` bytes fail; not on Windows."""
    try:
        import resource
    except ImportError:
        return
    for what, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, memory)):
        try:
            resource.setrlimit(what, (value, value))
        except (OSError, ValueError):  # macOS knows no limit of the address space
            continue


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Decode until the input ends."""
    import imagecodecs

    while len(head := asked.read(4)) == 4:
        data = asked.read(struct.unpack("<I", head)[0])
        try:
            image = imagecodecs.jpegxr_decode(data)
            if image.dtype != "uint8" or image.ndim not in (2, 3):
                raise ValueError(f"a JPEG XR tile holds {image.dtype} values")
            sides = image.shape if image.ndim == 3 else (*image.shape, 1)
            done, answer = True, image.tobytes()
        except Exception as error:  # noqa: BLE001 - told to the other process
            done, answer = False, (str(error) or type(error).__name__).encode()
            sides = (1, 1, len(answer))
        answers.write(struct.pack("<?3I", done, *sides) + answer)
        answers.flush()


def main(memory: str, folders: str) -> None:
    """Serve on the standard streams, which the library must not print to."""
    sys.path[:] = json.loads(folders)
    limit(int(memory))
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
