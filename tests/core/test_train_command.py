"""``focusfuse train`` with the real trainer behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import Shell, run_process

from napari_focusfuse.training_run import TrainingRun
from training_files import draw_images, write_recipe

PATIENCE = 120.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def words(images: Path, out: Path, **changes: object) -> list[str | Path]:
    recipe = write_recipe(out.with_suffix(".toml"), images, **changes)
    places = ["--out", out, "--data", images, "--cache", images / "cache"]
    return ["train", recipe, *places, "--device", "cpu"]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_training_ends_and_goes_on_where_its_recipe_allows(images: Path, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "run")
    run.request_stop()  # of an earlier day
    done = run_process(*words(images, run.folder), "--set", "steps=1")
    assert done.code == 0, done.err
    assert run.best.exists()
    assert (run.status().state, run.status().steps) == ("finished", 1)
    again = run_process("train", run.folder, "--device", "cpu")
    assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C can be sent there")
def test_ctrl_c_stops_the_run_and_keeps_its_weights(images: Path, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "run")
    arguments = [str(word) for word in words(images, run.folder, steps=100_000)]
    command = [sys.executable, "-m", "napari_focusfuse.cli", *arguments]
    with subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            wait_for(lambda: run.best.exists())
            # As a terminal does: to everybody in it.
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert said.count("stopping with the step in hand") == 1
    assert run.status().state == "stopped"
    assert run.state.exists()


def test_the_trainers_exit_code_is_passed_on(shell: Shell, tmp_path: Path) -> None:
    assert shell("train", "no-such-recipe", "--out", tmp_path / "run").code == 4


def test_a_run_goes_on_as_it_began(shell: Shell, images: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    answer = shell("train", tmp_path, "--set", "steps=3")
    assert answer.code == 1
    assert "goes on as it began" in answer.complaint
    answer = shell("train", "swift-three")
    assert answer.code == 1
    assert answer.complaint == (
        "swift-three is no run to go on with; say with --out where a new one shall be."
    )
