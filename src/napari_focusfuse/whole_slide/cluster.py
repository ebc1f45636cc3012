"""Blocks on many machines, through any client of dask.distributed.

Every worker process opens the slide and the models by itself, once; a task is a block's position
and comes back as encoded bytes.  Tiles at a block's border are computed by each block that needs
them, so workers never wait for one another, and nothing but the caller writes files.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import islice
from typing import Any

from napari_focusfuse.fusion.method import FusionError
from napari_focusfuse.slide import FocusFuseError

from .job import SlideJob, slide_identity
from .local import Step
from .worker import About, BlockWorker, DeviceLostError, FinishedBlock, Task

RETRIES = 2
"""How often a block is tried again when something other than its pixels went wrong."""
_AHEAD = 2
"""Blocks in flight for each thread of the workers."""
_PATIENCE_SECONDS = 120


class ClusterError(FusionError):
    """The cluster cannot do the work."""


class ClusterPipeline:
    """Runs tasks on the workers of a client.

    Parameters
    ----------
    client
        A ``distributed.Client``.
    job
        What is fused; the workers must see slide, model file and this package as we do.

    Raises
    ------
    ClusterError
        If there is no worker.
    """

    def __init__(self, client: Any, job: SlideJob) -> None:
        self._client, self._job = client, job.as_json()
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
        except TimeoutError:
            raise ClusterError(
                f"The scheduler has had no worker for {_PATIENCE_SECONDS} seconds; start some, or "
                "leave --scheduler out."
            ) from None
        self._fingerprint, self.about = self._ask()

    def _ask(self) -> tuple[str, About]:
        future = self._client.submit(_introduce, self._job, pure=False)
        found: tuple[str, About] = future.result()
        return found

    def run(self, tasks: Iterable[Task]) -> Generator[Step, None, None]:
        """Yield what came of each task, in any order; can be closed at any time."""
        from distributed import as_completed

        run, waiting = uuid.uuid4().hex, iter(tasks)
        flying: dict[Any, Task] = {}
        done = as_completed()

        def send(count: int) -> None:
            for task in islice(waiting, count):
                key = f"focusfuse-{run}-{task.block.row}-{task.block.column}"
                future = self._client.submit(
                    _fuse_block, self._job, task, key=key, pure=False, retries=RETRIES
                )
                flying[future] = task
                done.add(future)

        try:
            send(self._window())
            for future in done:
                task = flying.pop(future)
                outcome = self._outcome(future)
                future.release()
                # Workers may have come since.
                send(max(1, self._window() - len(flying)))
                yield task, outcome
        finally:
            with suppress(Exception):  # the scheduler may be gone; then there is nothing to cancel
                self._client.cancel(list(flying))

    def seconds(self) -> dict[str, float]:
        """Return nothing: the workers keep no account."""
        return {}

    def _window(self) -> int:
        threads: int = sum(self._client.nthreads().values())
        return max(2, _AHEAD * threads)

    def _outcome(self, future: Any) -> FinishedBlock | FocusFuseError:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            fingerprint, finished = future.result()
        except FocusFuseError as error:
            return error
        except KilledWorker as error:
            return ClusterError(f"{error} (its workers died of it)")
        except (CancelledError, CommClosedError):
            raise ClusterError(
                "The scheduler was lost; start it again and run again: what is done is kept."
            ) from None
        if fingerprint != self._fingerprint:
            raise ClusterError(
                "The workers do not agree: device, precision, versions, models or the slide differ "
                "between them, so their blocks would not fit together; use equal workers."
            )
        block: FinishedBlock = finished
        return block


def connect(address: str) -> Any:
    """Return a client of the scheduler at an address.

    Raises
    ------
    ClusterError
        If dask.distributed is not installed, or nobody answers there.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            "A scheduler needs dask.distributed: pip install 'napari-focusfuse[cluster]'."
        ) from None
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ClusterError(f"No scheduler answers at {address} ({error}).") from None


# --- what runs in the workers


class _Open:
    """The one job that this process has open."""

    def __init__(self, job: SlideJob) -> None:
        _limit_threads()
        self.worker = BlockWorker(job)
        facts = [self.worker.about.provenance, slide_identity(job.slide)]
        text = json.dumps(facts, sort_keys=True)
        self.fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


_opening = threading.Lock()
_opened: dict[str, _Open] = {}


def _open(values: dict[str, Any]) -> _Open:
    """Return a job's worker, opened once in this process."""
    key = json.dumps(values, sort_keys=True)
    with _opening:
        if key not in _opened:
            for other in _drained(_opened):
                other.worker.close()
            _opened[key] = _Open(SlideJob.from_json(values))
        return _opened[key]


def _drained(opened: dict[str, _Open]) -> Iterator[_Open]:
    while opened:
        yield opened.popitem()[1]


def _introduce(values: dict[str, Any]) -> tuple[str, About]:
    opened = _open(values)
    return opened.fingerprint, opened.worker.about


def _fuse_block(values: dict[str, Any], task: Task) -> tuple[str, FinishedBlock]:
    opened = _open(values)
    try:
        return opened.fingerprint, opened.worker(task)
    except DeviceLostError:
        # Another worker gets the block, and whoever watches this one starts it anew.
        os._exit(1)


def _limit_threads() -> None:
    """Let torch use as many threads as this worker was given: workers of one machine share it."""
    import torch
    from distributed import get_worker

    torch.set_num_threads(max(1, get_worker().state.nthreads))
