"""Whole slides to files: in blocks, resumable, on one machine or many.

From Python::

    job = slide_job(plan, {"image": "fused.ome.tif"})
    for progress in fuse_slide(job):
        ...

As a process of its own: ``focusfuse fuse SLIDE -o OUT.ome.tif``.  While it runs, the files beside
its output are all that other processes need:

- :func:`read_status` tells how it stands, or why it failed; ``"finished"`` once ``OUT`` is there;
- :class:`.preview.FinishedBlocks` gives the pixels of finished blocks at a low level;
- :func:`request_stop` asks it to end; the same command again goes on with what is done.
"""

from __future__ import annotations

from .engine import BlocksFailedError, SlideResult, fuse_slide
from .job import IMAGE, SlideJob, slide_job
from .status import (
    SlideProgress,
    SlideStatus,
    StoppedError,
    clear_stop,
    read_status,
    request_stop,
)

__all__ = [
    "IMAGE",
    "BlocksFailedError",
    "SlideJob",
    "SlideProgress",
    "SlideResult",
    "SlideStatus",
    "StoppedError",
    "clear_stop",
    "fuse_slide",
    "read_status",
    "request_stop",
    "slide_job",
]
