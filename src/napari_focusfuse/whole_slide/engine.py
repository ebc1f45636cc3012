"""The run: from a job to finished files, over a journal that survives whatever happens."""

from __future__ import annotations

import errno
import glob
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.process_lock import BusyError, ProcessLock, is_alive
from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.tiles import Tile
from napari_focusfuse.writer import OutputError, OutputFormatError, check_output, unwritable

from .assembly import Assembly
from .background import Colour, empty_tiles
from .blocks import Block, BlockGrid
from .cluster import ClusterPipeline
from .job import RunIdentity, SlideJob, plan_job, run_identity, slide_identity
from .journal import Journal, journal_path, read_header, remove_work
from .local import LocalPipeline, Step
from .report import finished_report, write_report
from .status import (
    SlideProgress,
    StatusFile,
    StoppedError,
    clear_stop,
    lock_path,
    report_path,
    stop_path,
)
from .worker import About, BlockWorker, DeviceLostError, FinishedBlock, Task, make_outputs

_FAILED_IN_A_ROW = 8
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BlocksFailedError(FocusFuseError):
    """Some blocks could not be fused; the others are kept."""

    exit_code = 2


class NoSpaceError(OutputError):
    """The disk is full."""


class Pipeline(Protocol):
    """Runs tasks, here or elsewhere."""

    def run(self, tasks: Iterator[Task]) -> Generator[Step, None, None]:
        """Yield what came of each task, in any order; can be closed at any time.

        In between it may yield None, so that somebody can ask it to stop.
        """
        ...

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent in each stage, where that is known."""
        ...


@dataclass(frozen=True)
class SlideResult:
    """What a run gave."""

    outputs: Mapping[str, Path]
    report: Mapping[str, Any]
    """What ``OUT.json`` holds."""
    provenance: Mapping[str, Any]
    already_done: bool = False
    """Whether an earlier run had finished all of it."""


def fuse_slide(
    job: SlideJob, *, overwrite: bool = False, threads: int | None = None, client: Any = None
) -> Generator[SlideProgress, None, SlideResult]:
    """Fuse a slide to files; the generator can be closed at any time, and begun anew.

    Finished blocks are kept in ``OUT.spool`` and ``OUT.journal`` beside the first output; a run of
    the same job goes on with them.  In the end every output appears whole, and ``OUT.json`` tells
    what it was made of.

    Parameters
    ----------
    job
        What to fuse to which files, see :func:`.job.slide_job`.
    overwrite
        Whether to replace finished outputs, and to discard unfinished work, of other parameters.
    threads
        Threads that decode, and that encode; None: as many as suit the machine.
    client
        A ``distributed.Client`` whose workers fuse the blocks; None: this process does.

    Yields
    ------
    A :class:`SlideProgress` after every tile and block; the generator's return value is
    the :class:`SlideResult`.

    Raises
    ------
    BusyError
        If another process makes the same output.
    OutputError
        If an output exists, its folder is missing or read-only, or the disk is full.
    SlideError
        If the slide cannot be opened, or disappears.
    BlocksFailedError
        If some blocks could not be fused.
    StoppedError
        If somebody asked the run to end, see :func:`.status.request_stop`.
    """
    check_outputs(job, overwrite=overwrite)
    status = StatusFile(job.first_output)
    with _locked(job.first_output) as lock:
        try:
            with _workplace(job, threads, client) as place:
                run = _Run(job, place, lock, status)
                result = yield from run(overwrite=overwrite)
        except GeneratorExit:
            status.end("stopped")
            raise
        except BaseException as error:
            stopped = isinstance(error, (StoppedError, KeyboardInterrupt))
            status.end("stopped" if stopped else "failed", str(error))
            raise
        status.end("finished")
    return result


def check_outputs(job: SlideJob, *, overwrite: bool = False) -> None:
    """Check, before hours of work, that the outputs can be written.

    Raises
    ------
    OutputFormatError
        If an output is neither OME-TIFF nor OME-Zarr.
    OutputError
        If a folder is missing or read-only, or an output exists that no run of ours can have begun.
    """
    begun = report_path(job.first_output).exists() or journal_path(job.first_output).exists()
    for path in job.outputs.values():
        if path.suffix.lower() == ".png":
            raise OutputFormatError(
                f"{path.name}: whole slides are written to .ome.tif or .ome.zarr; choose one."
            )
        check_output(path, overwrite=overwrite or begun)


def _sweep(path: Path) -> None:
    """Remove what killed processes of this machine left half written."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        number = partial.name.split(".")[-2]
        if number.isdigit() and not is_alive(int(number)):
            with suppress(OSError):
                partial.unlink()


@contextmanager
def _locked(output: Path) -> Iterator[ProcessLock]:
    lock = ProcessLock(lock_path(output), output.name)
    try:
        lock.acquire()
    except BusyError:
        raise
    except OSError as error:
        raise unwritable(output, error) from None
    try:
        yield lock
    finally:
        lock.release()


@dataclass(frozen=True)
class _Workplace:
    """Where blocks are fused, and what is known of the work there."""

    plan: FusionPlan
    about: About
    pipeline: Pipeline


@contextmanager
def _workplace(job: SlideJob, threads: int | None, client: Any) -> Iterator[_Workplace]:
    """Open what the work needs: slide and models here, or the slide alone and workers elsewhere."""
    if client is None:
        with closing(BlockWorker(job)) as worker:
            yield _Workplace(worker.plan, worker.about, LocalPipeline(worker, threads))
        return
    with job.open() as slide:
        plan, pipeline = plan_job(job, slide), ClusterPipeline(client, job)
        yield _Workplace(plan, pipeline.about, pipeline)


class _Run:
    """One run of one job, under its lock."""

    def __init__(
        self, job: SlideJob, place: _Workplace, lock: ProcessLock, status: StatusFile
    ) -> None:
        self._job, self._plan, self._about = job, place.plan, place.about
        self._pipeline = place.pipeline
        self._outputs = make_outputs(job, place.about)
        self._lock, self._status = lock, status
        plan = place.plan
        self._grid = BlockGrid(plan.region, job.block)
        self._progress = SlideProgress("preparing", total=len(self._grid), tiles=len(plan.tiles))
        self._failures: dict[Block, FocusFuseError] = {}
        self._began = time.monotonic()

    def __call__(self, *, overwrite: bool) -> Generator[SlideProgress, None, SlideResult]:
        identity = run_identity(self._job, self._about.provenance)
        paths = list(self._job.outputs.values())
        yield self._told()
        begun = read_header(self._job.first_output) or {}
        ours = begun.get("run") == identity.hash
        done = finished_report(paths, identity.hash)
        if done is not None:
            if ours:
                remove_work(self._job.first_output)
            return self._result(done, already_done=True)
        for path in paths:
            # Of several outputs some may be there already when a run is killed near its end.
            check_output(path, overwrite=overwrite or ours)
            _sweep(path)
        journal = self._opened(identity, discard=overwrite)
        try:
            yield from self._fuse_all(journal, identity)
            yield from self._assemble(journal)
            self._check_slide(identity)
            timing = {
                "seconds": round(time.monotonic() - self._began, 3),
                "resumed_blocks": self._progress.resumed,
                "stages": self._pipeline.seconds(),
            }
            report = write_report(identity, journal, self._outputs, timing)
            journal.remove()
        finally:
            journal.close()
        return self._result(report)

    def _opened(self, identity: RunIdentity, *, discard: bool) -> Journal:
        try:
            return Journal(self._job.first_output, identity.hash, self._header(), discard=discard)
        except OutputError:
            raise
        except OSError as error:
            raise self._refused(error) from None

    def _header(self) -> dict[str, Any]:
        return {"job": self._job.as_json(), "maps": [vars(info) for info in self._about.maps]}

    def _fuse_all(
        self, journal: Journal, identity: RunIdentity
    ) -> Generator[SlideProgress, None, None]:
        pending = [block for block in self._grid if block not in journal.entries]
        self._update(done=len(journal.entries), resumed=len(journal.entries))
        yield self._told()
        empty = empty_tiles(self._plan) if self._job.skip_background and pending else {}
        self._update(stage="fusing", empty=len(empty))
        clock = _Clock(len(pending))
        yield self._told()
        with closing(self._pipeline.run(self._task(block, empty) for block in pending)) as outcomes:
            for step in outcomes:
                if step is None:
                    self._update(block=None)
                    yield self._told()
                    continue
                task, outcome = step
                if isinstance(outcome, FinishedBlock):
                    self._keep(journal, outcome)
                    clock.finished()
                else:
                    self._failed(task, outcome, identity)
                self._update(
                    done=len(journal.entries),
                    failed=len(self._failures),
                    seconds_left=clock.left(),
                    block=self._grid.region_of(task.block),
                )
                yield self._told()
        if self._failures:
            raise self._failure()

    def _task(self, block: Block, empty: Mapping[Tile, Colour]) -> Task:
        part = self._grid.region_of(block)
        tiles = self._plan.grid.tiles_for(part.y, part.x, part.height, part.width)
        return Task(block, {tile: empty[tile] for tile in tiles if tile in empty})

    def _keep(self, journal: Journal, finished: FinishedBlock) -> None:
        try:
            journal.append(finished.block, finished.parts, finished.notes)
        except OSError as error:
            raise self._refused(error, journal) from None

    def _failed(self, task: Task, error: FocusFuseError, identity: RunIdentity) -> None:
        """Note a block that failed; end the run if it is clear that the others will fail too."""
        self._check_slide(identity)
        if isinstance(error, DeviceLostError):
            raise error
        self._failures[task.block] = error
        hopeless = len(self._failures) >= _FAILED_IN_A_ROW
        if hopeless and self._progress.done == self._progress.resumed:
            raise error

    def _failure(self) -> FocusFuseError:
        first = next(iter(self._failures.values()))
        if len(self._failures) == self._progress.total:
            return first
        return BlocksFailedError(
            f"{len(self._failures)} of {self._progress.total} blocks could not be fused; the first "
            f"because: {first} The others are kept: run again to try these once more."
        )

    def _assemble(self, journal: Journal) -> Generator[SlideProgress, None, None]:
        assembly = Assembly(journal, self._outputs, self._grid, self._about)
        self._update(stage="writing", seconds_left=None, block=None)
        yield self._told()
        try:
            for output in self._outputs:
                for _ in assembly.write(output):
                    yield self._told()
        except OutputError as error:
            raise (self._refused(error, journal) if error.errno in _NO_SPACE else error) from None

    def _check_slide(self, identity: RunIdentity) -> None:
        if slide_identity(self._job.slide) != identity.slide:
            raise OutputError(
                f"{self._job.slide.name} changed while it was being fused, so what is done belongs "
                "to another slide; run again with --overwrite."
            )

    def _refused(self, error: OSError, journal: Journal | None = None) -> OutputError:
        """Return the error for a disk that refuses spool or journal."""
        folder = self._job.first_output.parent
        if error.errno not in _NO_SPACE:
            return unwritable(self._job.first_output, error)
        done = 0 if journal is None else len(journal.entries)
        need = "more"
        if journal is not None and done:
            # Spool and finished files hold the same bytes.
            whole = journal.size * self._progress.total / done
            need = f"about {_size(2 * whole - journal.size)}"
        free = _size(shutil.disk_usage(folder).free)
        return NoSpaceError(
            f"No space left in {folder}: {need} needed, {free} free. What is done is kept: free "
            "some and run again."
        )

    def _update(self, **changes: Any) -> None:
        self._progress = replace(self._progress, **changes)

    def _told(self) -> SlideProgress:
        """Tell other processes, and return, how far the run is; end it if that was asked for."""
        self._lock.renew()
        self._status.tell(self._progress)
        if stop_path(self._job.first_output).exists():
            clear_stop(self._job.first_output)
            raise StoppedError(
                f"Stopped after {self._progress.done} of {self._progress.total} blocks; run again "
                "to go on."
            )
        return self._progress

    def _result(self, report: Mapping[str, Any], *, already_done: bool = False) -> SlideResult:
        return SlideResult(dict(self._job.outputs), report, self._about.provenance, already_done)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class _Clock:
    """Estimates the time left from the blocks of this run."""

    def __init__(self, pending: int) -> None:
        self._pending, self._done = pending, 0
        self._began = time.monotonic()

    def finished(self) -> None:
        """Count a block."""
        self._done += 1

    def left(self) -> float | None:
        """Return the seconds left, None before the first block."""
        if not self._done:
            return None
        return (time.monotonic() - self._began) / self._done * (self._pending - self._done)
