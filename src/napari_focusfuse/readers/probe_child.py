"""The process that tries a file first; started by ``probe`` as a script, with no package around.

It imports nothing but the library in question, so that it is there within a tenth of a second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

_SIDE = 64
_SECONDS = 5
"""Of the processor, not of waiting for a slow disk."""


def limit(memory: int) -> None:
    """Let allocations beyond ``memory`` bytes fail and long work end; not on Windows."""
    try:
        import resource
    except ImportError:
        return
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: _SECONDS,
    }
    for what, value in limits.items():
        try:
            resource.setrlimit(what, (value, value))
        except (OSError, ValueError):  # macOS knows no limit of the address space
            continue


def try_openslide(path: str) -> str | None:
    """Open a file as OpenSlide does, read a little of every level, return its vendor."""
    import openslide

    vendor: str | None = openslide.OpenSlide.detect_format(path)
    if vendor in (None, "generic-tiff"):  # then it is read without OpenSlide
        return vendor
    try:
        with openslide.OpenSlide(path) as slide:
            for level, (width, height) in enumerate(slide.level_dimensions):
                downsample = slide.level_downsamples[level]
                for x, y in ((0, 0), (width // 2, height // 2)):
                    place = (int(x * downsample), int(y * downsample))
                    slide.read_region(place, level, (_SIDE, _SIDE))
    except openslide.OpenSlideError:  # told again, and in words, when it is opened in earnest
        pass
    return vendor


def try_czi(path: str) -> str | None:
    """Open a file as libCZI does and read a little of it."""
    from pylibCZIrw import czi

    try:
        with czi.open_czi(path) as file:
            x, y, width, height = file.total_bounding_rectangle_no_pyramid
            for left, top in ((x, y), (x + width // 2, y + height // 2)):
                file.read(roi=(left, top, _SIDE, _SIDE))
    except (RuntimeError, ValueError):
        pass
    return "czi"


TRIALS: dict[str, Callable[[str], str | None]] = {"openslide": try_openslide, "czi": try_czi}


def main(library: str, memory: str, folders: str, path: str) -> None:
    """Print what the library calls the file as JSON, unless the process ends before."""
    sys.path[:] = json.loads(folders)
    limit(int(memory))
    try:
        answer: dict[str, str | None] = {"format": TRIALS[library](path)}
    except ImportError as error:
        answer = {"unavailable": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
