"""Whole slides on the workers of a real cluster of two processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shell import Shell

from napari_focusfuse.whole_slide import fuse_slide
from napari_focusfuse.whole_slide.cluster import ClusterError, connect
from slide_jobs import digest, job_for, run, write_slide

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    # Of a worker that is killed, and of clients that close.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.ome.tif", 1100, 1300)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def undisturbed(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as one process makes it."""
    out = tmp_path_factory.mktemp("undisturbed") / "fused.ome.tif"
    run(job_for(slide, out))
    return out


def test_with_one_worker_killed_in_the_middle_the_file_is_the_same(
    slide: Path, tmp_path: Path, client: Any, undisturbed: Path
) -> None:
    job = job_for(slide, tmp_path / "fused.ome.tif")
    killed = None
    for progress in fuse_slide(job, client=client):
        if killed is None and progress.done == 3:
            killed = next(iter(client.run(os.getpid).values()))
            os.kill(killed, signal.SIGKILL)
    assert killed is not None
    assert digest(job.first_output) == digest(undisturbed)


def test_the_command_takes_the_address_of_a_scheduler(
    slide: Path,
    tmp_path: Path,
    client: Any,
    undisturbed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell, out = Shell(capsys), tmp_path / "fused.ome.tif"
    call = ("fuse", slide, "-o", out, "--method", "argmax", "--compression", "zstd")
    answer = shell(*call, "--set", "block=1024", "--scheduler", client.scheduler.address)
    assert answer.code == 0, answer.err
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(undisturbed))


def test_no_scheduler_is_a_sentence() -> None:
    with pytest.raises(ClusterError, match=r"No scheduler answers at tcp://127.0.0.1:9"):
        connect("tcp://127.0.0.1:9")
