"""``focusfuse fuse`` to files that are written block by block."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from shell import Shell, pixels

from napari_focusfuse.readers import open_slide
from napari_focusfuse.whole_slide.journal import journal_path
from napari_focusfuse.whole_slide.status import status_path
from napari_focusfuse.writer import read_provenance
from slide_jobs import write_slide


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.ome.tif", 600, 1100)


def whole(path: Path) -> np.ndarray:
    with open_slide(path) as opened:
        return opened.read_region(opened.planes[0], 0, 0, 0, *opened.levels[0].shape)


def test_a_map_that_a_png_cannot_hold_is_refused_before_anything_is_fused(
    shell: Shell, slide: Path, tmp_path: Path
) -> None:
    out, depth = tmp_path / "f.png", tmp_path / "d.png"
    answer = shell("fuse", slide, "-o", out, "--method", "argmax", "--map", f"depth={depth}")
    assert answer.code == 1
    assert "d.png can hold only bytes" in answer.complaint
    assert list(tmp_path.iterdir()) == []


def test_picture_and_maps_come_in_one_pass_and_the_same_call_is_quick_again(
    shell: Shell, slide: Path, tmp_path: Path
) -> None:
    out, mask, depth = (tmp_path / name for name in ("f.ome.tif", "m.ome.tif", "d.ome.zarr"))
    call = ("fuse", slide, "-o", out, "--method", "argmax", "--compression", "zstd")
    maps = ("--mask", mask, "--map", f"depth={depth}", "--set", "block=512")
    answer = shell(*call, *maps)
    assert answer.code == 0, answer.err
    assert f"wrote {depth} (1100 x 600)" in answer.out
    png = tmp_path / "f.png"
    assert shell("fuse", slide, "-o", png, "--method", "argmax").code == 0
    np.testing.assert_array_equal(whole(out), pixels(png))
    mask_png = tmp_path / "m.png"
    assert shell("mask", slide, "-o", mask_png).code == 0
    np.testing.assert_array_equal(tifffile.imread(mask), pixels(mask_png))
    for path in (mask, depth):
        assert set(read_provenance(path)["maps"]) >= {"mask", "depth"}
    again = shell(*call, *maps)
    assert again.code == 0, again.err
    assert f"{out} was finished before" in again.out
    other = shell(*call[:-1], "deflate")
    assert other.code == 5
    assert "exists already" in other.complaint


def test_what_is_written_is_told_beside_it(shell: Shell, slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "fused.ome.tif"
    assert (
        shell("fuse", slide, "-o", out, "--method", "argmax", "--set", "background=skip").code == 0
    )
    report = json.loads((tmp_path / "fused.ome.tif.json").read_text())
    assert report["outputs"]["image"]["file"] == "fused.ome.tif"
    assert report["outputs"]["image"]["bytes"] == out.stat().st_size
    assert len(report["outputs"]["image"]["sha256"]) == 64
    assert report["parameters"]["provenance"]["method"] == "argmax"
    assert {"napari-focusfuse", "torch", "python"} <= set(report["versions"])
    assert report["tiles"]["empty"] == 0
    assert report["timing"]["seconds"] > 0
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.parametrize("setting", ["block=100", "block=", "preset=none", "threads=0", "x"])
def test_settings_that_are_not_understood(
    shell: Shell, slide: Path, tmp_path: Path, setting: str
) -> None:
    answer = shell(
        "fuse", slide, "-o", tmp_path / "o.ome.tif", "--method", "argmax", "--set", setting
    )
    assert answer.code == 1
    assert "block" in answer.complaint


def test_interrupted_it_exits_130_and_the_same_call_goes_on(
    shell: Shell, slide: Path, tmp_path: Path
) -> None:
    out, png = tmp_path / "fused.ome.tif", tmp_path / "fused.png"
    arguments = ("fuse", str(slide), "--method", "argmax", "--compression", "zstd")
    call = (*arguments, "-o", str(out), "--set", "block=512", "--set", "threads=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_focusfuse.cli", *call], stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 100
    while not (journal_path(out).exists() and journal_path(out).read_bytes().count(b"\n") > 1):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert "Interrupted" in complaint
    assert json.loads(status_path(out).read_text())["state"] == "stopped"
    assert not out.exists()
    again = shell(*call)
    assert again.code == 0, again.err
    assert "of 6 blocks were done before" in again.out
    assert shell(*arguments, "-o", png).code == 0
    np.testing.assert_array_equal(whole(out), pixels(png))
