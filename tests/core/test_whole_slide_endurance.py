"""What happens to long work: kills, torn files, full disks, a second process, a slide that goes."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
import resource
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_focusfuse.fusion.plan import Preset
from napari_focusfuse.process_lock import BusyError, ProcessLock
from napari_focusfuse.slide import SlideError
from napari_focusfuse.whole_slide import (
    SlideJob,
    StoppedError,
    fuse_slide,
    read_status,
    request_stop,
)
from napari_focusfuse.whole_slide import worker as worker_module
from napari_focusfuse.whole_slide.journal import OtherWorkError, journal_path, spool_path
from napari_focusfuse.whole_slide.status import lock_path, report_path
from napari_focusfuse.writer import OutputError
from slide_jobs import Mean, digest, job_for, run, write_slide

KILLS = 20


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fuse without torch, which does not survive a fork, and without patience."""
    monkeypatch.setattr(worker_module, "load_fusion", lambda *_: (Mean(), ()))
    monkeypatch.setattr(worker_module, "RETRY_SECONDS", (0.0,))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.ome.tif", 1100, 1300)


@pytest.fixture(scope="module")
def undisturbed(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the file that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "fused.ome.tif"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "load_fusion", lambda *_: (Mean(), ()))
        run(job_for(slide, out))
    return digest(out)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "fused.ome.tif"


def begun(job: SlideJob, blocks: int) -> None:
    """Finish some blocks of a job, then give it up."""
    steps = fuse_slide(job)
    for progress in steps:
        if progress.done >= blocks:
            break
    steps.close()


def run_until(job: SlideJob, blocks: int, happens: Callable[[], Any]) -> None:
    """Run a job; something happens once so many blocks are done."""
    for progress in fuse_slide(job, threads=1):
        if progress.done == blocks and progress.block is not None:
            happens()


def beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path.is_file())


# --- killed


def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    slide: Path, out: Path, undisturbed: str
) -> None:
    job, rng = job_for(slide, out), random.Random(5)
    kills = finished = 0
    while kills < KILLS:
        if killed_after(rng.uniform(0.02, 0.5), lambda: run(job)):
            kills += 1
            continue
        assert digest(out) == undisturbed
        finished += 1
        out.unlink()
        report_path(out).unlink()
    run(job)
    assert digest(out) == undisturbed
    assert beside(out) == ["fused.ome.tif", "fused.ome.tif.json"]


def killed_after(seconds: float, work: Callable[[], Any]) -> bool:
    """Do work in a fork of this process; tell whether it had to be killed before it was done."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads exist
        child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status == signal.SIGKILL


def test_torn_lines_and_garbage_are_done_again(slide: Path, out: Path, undisturbed: str) -> None:
    job = job_for(slide, out)
    begun(job, 5)
    lines = journal_path(out).read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    entry = json.loads(lines[2])
    spool = bytearray(spool_path(out).read_bytes())
    spool[entry["offset"] + 10] ^= 1
    spool_path(out).write_bytes(bytes(spool) + b"garbage" * 100)
    torn = lines[5][: len(lines[5]) // 2]
    journal_path(out).write_bytes(b"".join([*lines[:4], b'{"block": [0, "x"]}\n', lines[4], torn]))
    steps = fuse_slide(job)
    resumed = max(progress.resumed for progress in steps)
    assert resumed == 3
    assert digest(out) == undisturbed


def test_a_spool_that_is_gone_or_a_journal_of_nonsense_is_begun_again(
    slide: Path, out: Path, undisturbed: str
) -> None:
    job = job_for(slide, out)
    begun(job, 3)
    spool_path(out).unlink()
    run(job)
    assert digest(out) == undisturbed
    out.unlink()
    journal_path(out).write_bytes(os.urandom(1000))
    run(job)
    assert digest(out) == undisturbed


# --- no space, no access


@pytest.fixture(params=["2m", "5m"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk too small for the spool, or for the file made from it; or files that may not grow."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if (
        os.geteuid() == 0
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    ):
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_what_is_done_is_kept(
    slide: Path, small_disk: Path, tmp_path: Path, undisturbed: str
) -> None:
    job = job_for(slide, small_disk / "fused.ome.tif")
    with pytest.raises(OutputError, match=r"No space left in .*disk: .* free some") as caught:
        run(job)
    assert caught.value.exit_code == 5
    status = read_status(job.first_output)
    assert status is not None
    assert (status.state, status.error) == ("failed", str(caught.value))
    kept = tmp_path / "roomy"
    kept.mkdir()
    for path in (journal_path(job.first_output), spool_path(job.first_output)):
        (kept / path.name).write_bytes(path.read_bytes())
    moved = job_for(slide, kept / "fused.ome.tif")
    steps = fuse_slide(moved)
    assert max(progress.resumed for progress in steps) > 0
    assert digest(moved.first_output) == undisturbed


def test_a_missing_or_read_only_folder_is_said_at_once(slide: Path, tmp_path: Path) -> None:
    job = job_for(slide, tmp_path / "nowhere" / "fused.ome.tif")
    with pytest.raises(OutputError, match="nowhere does not exist") as caught:
        run(job)
    assert caught.value.exit_code == 5
    png = job_for(slide, tmp_path / "fused.png")
    with pytest.raises(OutputError, match=r"\.ome\.tif or \.ome\.zarr"):
        run(png)


def test_a_read_only_disk_is_said_at_once(slide: Path, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a read-only disk")
    try:
        with pytest.raises(OutputError, match="Read-only") as caught:
            run(job_for(slide, folder / "fused.ome.tif"))
        assert caught.value.exit_code == 5
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class FailingSystem:
    """Lets the n-th write, fsync or rename of files under a folder fail."""

    def __init__(self, folder: Path, fails: int, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.fails, self.calls = str(folder), fails, 0
        self._open, self._fsync, self._replace = io.open, os.fsync, os.replace
        patch.setattr(os, "fsync", self.fsync)
        patch.setattr(os, "replace", self.replace)
        patch.setattr(io, "open", self.open)
        patch.setattr(builtins, "open", self.open)

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.fails:
            raise OSError(errno.EIO, "Input/output error")

    def fsync(self, handle: int) -> None:
        self.count()
        self._fsync(handle)

    def replace(self, source: Any, target: Any) -> None:
        self.count()
        self._replace(source, target)

    def open(self, file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        writes = "b" in mode and set(mode) & set("wa+")
        if not writes or "opener" in keywords or not str(file).startswith(self.folder):
            return self._open(file, mode, *arguments, **keywords)
        count = self.count

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                count()
                return super().write(data)

        raw = Raw(file, mode.replace("b", ""))
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


def test_whichever_write_fails_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_slide(tmp_path / "slide.ome.tif", 100, 700)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "fused.ome.tif"
    job = job_for(slide, out, preset=Preset("small", tile=512, margin=0, ramp=0))
    run(job)
    whole, left = digest(out), beside(out)
    fails = 0
    while True:
        out.unlink()
        report_path(out).unlink()
        fails += 1
        with monkeypatch.context() as patch:
            system = FailingSystem(folder, fails, patch)
            try:
                run(job)
                error = None
            except OutputError as raised:
                error = raised
        assert not out.exists() or digest(out) == whole
        if system.calls < fails:
            break
        if error is not None:
            assert (error.exit_code, str(error).count("\n")) == (5, 0)
            run(job)
        assert digest(out) == whole
        assert beside(out) == left
    assert fails > 20


# --- several processes


def test_a_second_run_of_the_same_output_is_refused(slide: Path, out: Path) -> None:
    steps = fuse_slide(job_for(slide, out))
    next(steps)
    with pytest.raises(BusyError, match=rf"Process {os.getpid()} on .* is writing") as caught:
        run(job_for(slide, out))
    assert caught.value.exit_code == 3
    steps.close()
    assert not lock_path(out).exists()
    run(job_for(slide, out))


def test_a_lock_left_by_the_dead_is_taken_over_and_one_of_the_living_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    dead = subprocess.Popen(["true"])
    dead.wait()
    lock = ProcessLock(path, "x")
    left_by_the_dead = {"pid": dead.pid, "host": os.uname().nodename, "start": "1"}
    for left in (json.dumps(left_by_the_dead), "", "{"):
        path.write_text(left)
        with lock:
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()
    path.write_text('{"pid": 7, "host": "another-machine", "start": "1"}')
    with pytest.raises(BusyError, match="Process 7 on another-machine"):
        lock.acquire()
    os.utime(path, (0, 0))
    with lock:
        assert path.stat().st_mtime > 1e9


def test_what_a_killed_process_left_half_written_is_removed(slide: Path, out: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    theirs = out.with_name(f".{out.name}.{os.getpid()}.partial")
    theirs.touch()
    out.with_name(f".{out.name}.{dead.pid}.partial").touch()
    begun(job_for(slide, out), 1)
    assert [name for name in beside(out) if name.startswith(".")] == [theirs.name]


# --- what was there before


def test_work_of_other_parameters_is_refused_unless_told(slide: Path, out: Path) -> None:
    begun(job_for(slide, out), 3)
    other = job_for(slide, out, compression="deflate")
    with pytest.raises(OtherWorkError, match="--overwrite"):
        run(other)
    run(other, overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        run(job_for(slide, out))


def test_what_is_finished_is_not_done_again(slide: Path, out: Path) -> None:
    first = run(job_for(slide, out))
    assert not first.already_done
    written = out.stat().st_mtime_ns
    again = run(job_for(slide, out))
    assert again.already_done
    assert out.stat().st_mtime_ns == written
    assert again.report["run"] == first.report["run"]


# --- stopped, and slides that go


def test_it_stops_when_asked_and_goes_on_later(slide: Path, out: Path, undisturbed: str) -> None:
    job = job_for(slide, out)
    with pytest.raises(StoppedError, match="run again") as caught:
        run_until(job, 2, lambda: request_stop(out))
    assert caught.value.exit_code == 130
    status = read_status(out)
    assert status is not None
    assert status.state == "stopped"
    steps = fuse_slide(job)
    assert max(progress.resumed for progress in steps) >= 2
    assert digest(out) == undisturbed
    status = read_status(out)
    assert status is not None
    assert status.state == "finished"


def test_a_slide_that_disappears_is_said_and_what_is_done_is_kept(
    slide: Path, tmp_path: Path, out: Path, undisturbed: str
) -> None:
    copy = tmp_path / "slide.ome.tif"
    copy.write_bytes(slide.read_bytes())
    os.utime(copy, ns=(1, 1))
    job = job_for(copy, out)
    away = tmp_path / "away"
    with pytest.raises(SlideError, match=r"disappeared .*what is done is kept"):
        run_until(job, 2, lambda: copy.rename(away))
    away.rename(copy)
    steps = fuse_slide(job)
    assert max(progress.resumed for progress in steps) >= 2
    assert digest(out) == undisturbed
