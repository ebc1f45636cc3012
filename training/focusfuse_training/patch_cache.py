"""The cache of patches, shared between runs: what is whole in it, and what must go."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from .stack import SUFFIX, StackError, StackFile

log = logging.getLogger(__name__)

_HEADER_BYTES = 512
"""More than a stack file's header takes."""


def stack_bytes(side: int, planes: int) -> int:
    """Return the size of a square stack's file: planes, two truths in colour, mask and ratio."""
    return side * side * (3 * planes + 3 + 3 + 1 + 2) + _HEADER_BYTES


def is_whole(path: Path) -> bool:
    """Tell whether the cache holds a stack; a damaged file is told of, and counts as missing."""
    if not path.exists():
        return False
    try:
        StackFile(path)
    except StackError as error:
        log.warning("%s", error)
        return False
    return True


def make_room(cache: Path, keep: Iterable[Path], needed: int, bound: float) -> None:
    """Delete stacks of other runs, least recently used first, until this run's fit the bound.

    Parameters
    ----------
    keep
        This run's stacks, made or not.
    needed
        Bytes of all of them.
    bound
        Most bytes the cache may take.
    """
    kept = set(keep)
    for path in kept:
        if path.exists():
            os.utime(path)  # used now
    others = [path for path in cache.rglob(f"*{SUFFIX}") if path not in kept]
    sizes = {path: (stat.st_mtime_ns, stat.st_size) for path in others if (stat := path.stat())}
    excess = needed + sum(size for _, size in sizes.values()) - bound
    deleted = 0
    for path, (_, size) in sorted(sizes.items(), key=lambda item: item[1][0]):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size
        deleted += 1
    if deleted:
        log.info("deleted %d patches of other runs from %s to make room", deleted, cache)
