"""The whole slide as the dock asks for it: its plan, its command, and what it will take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drawn_slide import Drawn
from napari_focusfuse.cli.options import parse_planes, parse_region
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import FocusFuseError, Region
from napari_focusfuse.widgets.slide_request import (
    OutputNameError,
    Sample,
    SlideRequest,
    command,
    describe,
    disk_bytes,
    measure,
    outputs_of,
    suggested_output,
    too_little_room,
    whole_plan,
    writable,
)
from slide_jobs import write_slide


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> SlideRequest:
    path = write_slide(tmp_path_factory.mktemp("slide") / "thick.ome.tif", 500, 2400)
    with open_slide(path) as slide:
        return SlideRequest(
            whole_plan(slide, "argmax", "three", 1),
            suggested_output(slide),
            maps=("depth",),
            device="cpu",
        )


def test_all_of_the_slide_is_fused_around_the_sliders_layer(request_: SlideRequest) -> None:
    job = request_.job()
    assert job.region == Region(0, 0, 500, 2400)
    assert (job.planes, job.zero, job.centre) == ((0, 1, 2), 1, 1)
    assert [path.name for path in job.outputs.values()] == [
        "thick.fused.ome.tif",
        "thick.fused.depth.ome.tif",
    ]


def test_the_command_says_the_job_in_full(request_: SlideRequest) -> None:
    job = request_.job()
    words = command(job)
    assert words[:5] == [sys.executable, "-P", "-m", "napari_focusfuse.cli", "fuse"]
    assert words[5] == str(job.slide)
    (planes,) = (word for word in words if word.startswith("--planes="))
    assert parse_planes(planes.removeprefix("--planes=")) == (-1, 0, 1)
    assert parse_region(words[words.index("--region") + 1]) == job.region
    assert f"depth={job.outputs['depth']}" in words


def test_time_and_disk_come_from_a_tile_fused_here(tmp_path: Path) -> None:
    slide = open_slide(write_slide(tmp_path / "thick.ome.tif", 500, 600))
    with slide:
        plan = whole_plan(slide, "argmax", "all", 1)
        request = SlideRequest(plan, tmp_path / "out.ome.tif", ("depth",), device="cpu")
        sample = measure(request)
    assert sample.empty == 0
    assert sample.seconds > 0
    assert 0.5 < sample.pixel_bytes < 8
    assert disk_bytes(request, sample) == pytest.approx(
        500 * 600 * sample.pixel_bytes * 4 / 3, rel=1e-6
    )


def test_what_it_will_take_is_said_before_it_starts(request_: SlideRequest) -> None:
    looking = describe(request_, None, None)
    assert looking.startswith("layers -1, 0, +1 · 0.25 um/px · 2,400 x 500 px · 2 tiles")
    assert looking.endswith("measuring time and disk on one tile …")
    sample = Sample(empty=1, seconds=30.0, pixel_bytes=2.0)
    said = describe(request_, sample, 10**9)
    assert "2 tiles, 1 of them empty glass · about 30 s" in said
    assert "about 1.6 MB, and as much again until it is done (1.0 GB free)" in said
    assert too_little_room(request_, sample, 10**9) == ""
    assert "3.2 MB are needed" in too_little_room(request_, sample, 10**6)


def test_what_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    assert outputs_of(tmp_path / "a.ome.zarr", ["mask"])["mask"].name == "a.mask.ome.zarr"
    with pytest.raises(OutputNameError, match="no suffix"):
        outputs_of(tmp_path / "a.png", [])
    there = tmp_path / "a.ome.tif"
    assert writable({"image": there}) == ""
    there.touch()
    assert "exists already" in writable({"image": there})
    assert "does not exist" in writable({"image": tmp_path / "none" / "a.ome.tif"})


def test_what_is_no_file_cannot_be_fused_whole() -> None:
    with pytest.raises(FocusFuseError, match="is not a file"):
        whole_plan(Drawn(), "argmax", "three", 1)
