"""Whole slides to files: the same pixels as in memory, and the same bytes however they are cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_focusfuse.fusion.catalogue import available_methods, load_method
from napari_focusfuse.fusion.maps import load_mappers
from napari_focusfuse.fusion.method import FusionError
from napari_focusfuse.fusion.plan import SLIDE, FusionPlan, tile_grid
from napari_focusfuse.fusion.region import finish, run_fusion
from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Region
from napari_focusfuse.whole_slide import BlocksFailedError, SlideJob, fuse_slide, read_status
from napari_focusfuse.whole_slide import worker as worker_module
from napari_focusfuse.whole_slide.background import empty_tiles
from napari_focusfuse.whole_slide.job import default_block
from napari_focusfuse.whole_slide.preview import FinishedBlocks
from napari_focusfuse.whole_slide.report import file_hash
from slide_files import write_ome
from slide_jobs import Mean, digest, job_for, plan_of, run, write_slide
from textured_slide import texture


@contextmanager
def opened(plan: FusionPlan) -> Iterator[FusionPlan]:
    """The plan with its slide opened again."""
    with open_slide(plan.slide.path) as slide:
        yield replace(plan, slide=slide)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.ome.tif")


@pytest.fixture(scope="module")
def expected(slide: Path) -> np.ndarray:
    """The picture as it is fused in memory."""
    with opened(plan_of(slide)) as plan:
        return finish(run_fusion(plan, load_method("argmax", "cpu"))).image


@pytest.fixture(scope="module")
def reference(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as it is made in blocks of 512."""
    out = tmp_path_factory.mktemp("reference") / "fused.ome.tif"
    run(job_for(slide, out))
    return out


def test_every_level_is_that_of_the_fusion_in_memory(reference: Path, expected: np.ndarray) -> None:
    with tifffile.TiffFile(reference) as file:
        levels = file.series[0].levels
        assert len(levels) == 3
        for level in levels:
            np.testing.assert_array_equal(level.asarray(), expected)
            expected = halve(expected)


@pytest.mark.parametrize("block", [1024, 1536, 2048])
def test_the_size_of_a_block_changes_no_byte(
    slide: Path, reference: Path, tmp_path: Path, block: int
) -> None:
    out = tmp_path / "fused.ome.tif"
    run(job_for(slide, out, block=block), threads=3)
    assert digest(out) == digest(reference)


def test_a_region_of_odd_sizes_is_the_same_part_of_the_whole(
    slide: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    region = Region(37, 101, 801, 777)
    out = tmp_path / "part.ome.tif"
    run(job_for(slide, out, region=region, block=512))
    with tifffile.TiffFile(out) as file:
        (series,) = file.series
        part = expected[37:838, 101:878]
        for level in series.levels:
            np.testing.assert_array_equal(level.asarray(), part)
            part = halve(part)


def test_zarr_and_maps_are_those_of_the_fusion_in_memory(
    slide: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    image, depth = tmp_path / "fused.ome.zarr", tmp_path / "depth.ome.tif"
    job = job_for(slide, image, maps={"depth": depth}, block=1536)
    result = run(job)
    group = zarr.open_group(image, mode="r")
    assert sorted(group) == ["0", "1", "2"]
    for level in range(3):
        np.testing.assert_array_equal(np.moveaxis(group[str(level)][:], 0, -1), expected)
        expected = halve(expected)
    with opened(plan_of(slide)) as plan:
        mappers = load_mappers(["depth"], plan, "cpu")
        fusion = finish(run_fusion(plan, load_method("argmax", "cpu"), mappers))
    np.testing.assert_array_equal(tifffile.imread(depth), fusion.maps["depth"])
    assert result.report["outputs"]["depth"]["sha256"] == file_hash(depth)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "depth.ome.tif",
        "fused.ome.zarr",
        "fused.ome.zarr.json",
    ]


def test_whole_slides_overlap_little_and_their_blocks_are_whole_tiles(slide: Path) -> None:
    for info in available_methods():
        grid = tile_grid(info, SLIDE)
        assert default_block(grid.step) % grid.step == 0
        assert default_block(grid.step) % 1024 == 0
        # Networks look further; beyond the largest step their tiles would not fit into memory.
        most = 1.2 if info.weights is None else 1.27
        if info.exact:
            assert (grid.tile / grid.step) ** 2 <= most, info.name


# --- empty glass


GLASS = (238, 241, 239)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of glass with cells in its left third and in one corner, seven levels deep."""
    path = tmp_path_factory.mktemp("sparse") / "sparse.ome.tif"
    height, width = 1100, 2300
    noise = np.random.default_rng(1).integers(-2, 3, (height, width, 3))
    stack = np.repeat((np.array(GLASS) + noise).astype(np.uint8)[None], 3, axis=0)
    cells = texture(height, 600)
    stack[:, :, :600] = cells
    stack[2, -40:, -40:] = (150, 60, 140)  # in one of the planes only
    return write_ome(path, stack, levels=5, tile=256, compression=None, PhysicalSizeX=0.25)


def test_empty_glass_is_found_alike_by_blocks_of_any_size(sparse: Path, tmp_path: Path) -> None:
    files = []
    for block in (512, 1024):
        out = tmp_path / str(block) / "fused.ome.tif"
        out.parent.mkdir()
        result = run(job_for(sparse, out, block=block))
        files.append(out)
        if block == 512:
            # Of 3 x 5 tiles two columns hold cells, and two more see the corner.
            assert result.report["tiles"] == {"computed": 3 * 2 + 2, "empty": 3 * 3 - 2}
    assert digest(files[0]) == digest(files[1])
    kept = tmp_path / "kept.ome.tif"
    assert run(job_for(sparse, kept, skip_background=False)).report["tiles"]["empty"] == 0
    skipped, fused = tifffile.imread(files[0]), tifffile.imread(kept)
    np.testing.assert_array_equal(skipped[:, :1024], fused[:, :1024])
    np.testing.assert_array_equal(skipped[1024:, 2048:], fused[1024:, 2048:])
    assert np.abs(skipped.astype(int) - fused).max() <= 4
    assert (skipped[:512, 1536:2048] == skipped[0, 1536]).all()


def test_nothing_is_empty_without_a_low_level_or_without_glass(slide: Path, sparse: Path) -> None:
    with opened(plan_of(slide)) as plan:
        assert empty_tiles(plan) == {}
    with opened(plan_of(sparse)) as plan:
        found = empty_tiles(plan)
        assert set(found) <= set(plan.tiles)
        assert all(np.abs(np.subtract(colour, GLASS)).max() <= 1 for colour in found.values())


# --- what cannot be fused


def test_a_block_that_gives_no_numbers_is_told_and_the_others_are_kept(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "fused.ome.tif", []

    class Sick(Mean):
        def compute(self, stacks: np.ndarray) -> np.ndarray:
            calls.append(1)
            return stacks.mean(axis=1) * np.float32(np.nan if len(calls) == 4 else 1)

    monkeypatch.setattr(worker_module, "load_fusion", lambda *_: (Sick(), ()))
    with pytest.raises(BlocksFailedError, match=r"1 of 9 blocks .* not numbers") as caught:
        run(job_for(slide, out))
    assert caught.value.exit_code == 2
    assert not out.exists()
    steps = fuse_slide(job_for(slide, out))
    assert max(progress.resumed for progress in steps) == 8
    assert out.exists()


def test_a_gpu_that_fails_ends_the_run_and_what_is_done_is_kept(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "fused.ome.tif", []

    class Lost(Mean):
        def compute(self, stacks: np.ndarray) -> np.ndarray:
            calls.append(1)
            if len(calls) > 3:
                raise RuntimeError("CUDA error: uncorrectable ECC error\nCompile with ...")
            return super().compute(stacks)

    monkeypatch.setattr(worker_module, "load_fusion", lambda *_: (Lost(), ()))
    with pytest.raises(FusionError, match=r"GPU failed .*ECC error\); what is done is kept"):
        run(job_for(slide, out), threads=1)
    assert len(calls) == 4
    steps = fuse_slide(job_for(slide, out))
    next(steps)
    assert next(steps).resumed > 0
    steps.close()


def test_names_of_any_kind_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "Zytologie 50 % #1 – Größe"
    folder.mkdir()
    slide = write_slide(folder / "Präparat [2] ü.ome.tif", 90, 120)
    for name in ("fertig #%41 ß.ome.tif", "[x] ☃.ome.zarr"):
        result = run(job_for(slide, folder / name))
        assert result.report["outputs"]["image"]["file"] == name
        with open_slide(folder / name) as opened_again:
            assert opened_again.levels[0].shape == (90, 120)


def test_a_map_that_nothing_makes_is_said(slide: Path, tmp_path: Path) -> None:
    maps = {"beauty": tmp_path / "b.ome.tif"}
    with pytest.raises(FusionError, match="no map 'beauty'"):
        run(job_for(slide, tmp_path / "o.ome.tif", maps=maps))
    assert not (tmp_path / "o.ome.tif.lock").exists()


def test_a_job_is_plain_data(slide: Path, tmp_path: Path) -> None:
    job = job_for(slide, tmp_path / "o.ome.tif", maps={"mask": tmp_path / "m.ome.zarr"})
    assert SlideJob.from_json(json.loads(json.dumps(job.as_json()))) == job


def test_finished_blocks_are_seen_by_others_at_a_low_level(
    slide: Path, tmp_path: Path, expected: np.ndarray
) -> None:
    out = tmp_path / "fused.ome.tif"
    job = job_for(slide, out)
    blocks, seen = FinishedBlocks(out), []
    assert blocks.new() == []
    for progress in fuse_slide(job, threads=1):
        if progress.stage == "fusing":
            seen += blocks.new()
            assert len(seen) == progress.done
            status = read_status(out)
            assert status is not None
            assert status.state == "running"
    assert len(seen) == 9
    for block in seen:
        y, x = block.region.y, block.region.x
        part = expected[y : block.region.stop_y, x : block.region.stop_x]
        np.testing.assert_array_equal(block.pixels, halve(part))
        assert block.downsample == 2
