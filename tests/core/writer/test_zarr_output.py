"""OME-Zarr as we write it, read by the zarr library and by our own reader."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import ImageCms

from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Region, SlideError
from napari_focusfuse.writer import (
    OmeZarr,
    OutputError,
    PyramidSpec,
    check_output,
    read_provenance,
    write_image,
)

MPP = (0.25, 0.243)
ABOUT = {"method": "argmax", "source": "Präparat 3.mrxs"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IMAGE = np.random.default_rng(0).integers(0, 256, (700, 530, 3), dtype=np.uint8)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_block(output: OmeZarr, region: Region) -> None:
    """Write a block's shards of every level it owns one of."""
    pixels = IMAGE[region.y : region.stop_y, region.x : region.stop_x]
    for level in range(3):
        part = Region(region.y >> level, region.x >> level, *pixels.shape[:2])
        output.write(level, part, pixels)
        pixels = halve(pixels)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("written") / "fused µ.ome.zarr"
    write_image(path, IMAGE, mpp=MPP, provenance=ABOUT, icc=PROFILE)
    return path


def test_the_zarr_library_reads_every_level(written):
    group = zarr.open_group(written, mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    assert {axis.get("unit") for axis in multiscale["axes"]} == {None, "micrometer"}
    wanted = IMAGE
    for level, dataset in enumerate(multiscale["datasets"]):
        np.testing.assert_array_equal(np.moveaxis(group[dataset["path"]][:], 0, 2), wanted)
        scale, shift = (change[change["type"]] for change in dataset["coordinateTransformations"])
        assert scale == pytest.approx([1, MPP[0] * 2**level, MPP[1] * 2**level])
        assert shift[1] == pytest.approx(MPP[0] * (2**level - 1) / 2)
        wanted = halve(wanted)
    assert len(multiscale["datasets"]) == 2


def test_our_reader_gives_pixels_scale_profile_and_provenance_back(written):
    with open_slide(written) as slide:
        assert [level.shape for level in slide.levels] == [(700, 530), (350, 265)]
        assert slide.mpp == pytest.approx(MPP)
        assert slide.icc_profile == PROFILE
        assert slide.not_shown == []
        pixels = slide.read_region(slide.planes[0], 0, 0, 0, 700, 530)
        np.testing.assert_array_equal(pixels, IMAGE)
    assert read_provenance(written) == ABOUT
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_blocks_of_several_processes_make_the_same_folder(tmp_path):
    about: dict[str, Any] = {"mpp": MPP, "provenance": ABOUT, "name": "a"}
    outputs = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        spec = PyramidSpec(700, 530, tile=64)
        output = OmeZarr(tmp_path / folder / "a.ome.zarr", spec, block=256)
        output.create(**about)
        outputs.append(output)
    blocks = list(outputs[0].regions(0))
    assert len(blocks) == 9
    for region in blocks:
        write_block(outputs[0], region)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(write_block, [outputs[1]] * 9, reversed(blocks)))
    for output in outputs:
        # What a killed process leaves does not reach the end.
        (output.partial / "0" / "c" / "half.partial").write_bytes(b"torn")
        image = halve(halve(halve(IMAGE)))
        for level in range(3, len(output.spec.levels)):
            for part in output.regions(level):
                output.write(level, part, image[part.y : part.stop_y, part.x : part.stop_x])
            image = halve(image)
        output.finish()
    assert files(outputs[0].path) == files(outputs[1].path)
    assert not any("partial" in name for name in files(outputs[0].path))
    shards = [name for name in files(outputs[0].path) if name.startswith("0/c/")]
    assert len(shards) == len(blocks)
    with open_slide(outputs[1].path) as slide:
        wanted = IMAGE
        for number, level in enumerate(slide.levels):
            pixels = slide.read_region(slide.planes[0], number, 0, 0, *level.shape)
            np.testing.assert_array_equal(pixels, wanted)
            wanted = halve(wanted)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_image(path, IMAGE[:200, :200], mpp=None, provenance={})
    shard = next(file for file in (path / "0" / "c").rglob("*") if file.is_file())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(SlideError):
        slide.read_region(slide.planes[0], 0, 0, 0, 200, 200)


def test_what_was_never_written_is_background(tmp_path):
    output = OmeZarr(tmp_path / "a.ome.zarr", PyramidSpec(300, 300, tile=128), block=256)
    output.create(mpp=None, provenance={}, name="a", background=240)
    output.finish()
    with open_slide(output.path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 300, 300) == 240).all()
        assert slide.mpp is None


def test_maps_have_no_channels(tmp_path):
    depth = np.random.default_rng(0).normal(0, 3, (90, 80)).astype(np.float32)
    write_image(tmp_path / "depth.ome.zarr", depth, mpp=MPP, provenance=ABOUT)
    group = zarr.open_group(tmp_path / "depth.ome.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], depth)
    assert [a["name"] for a in group.attrs["ome"]["multiscales"][0]["axes"]] == ["y", "x"]


def test_only_an_ome_zarr_is_replaced_and_only_when_told(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_image(path, IMAGE[:50, :50], mpp=None, provenance={"run": 1})
    with pytest.raises(OutputError, match="exists already"):
        check_output(path)
    write_image(path, IMAGE[:40, :40], mpp=None, provenance={"run": 2}, overwrite=True)
    assert read_provenance(path) == {"run": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]
    (tmp_path / "letters.ome.zarr").mkdir()
    (tmp_path / "letters.ome.zarr" / "dear.txt").write_text("precious")
    with pytest.raises(OutputError, match="is no OME-Zarr"):
        check_output(tmp_path / "letters.ome.zarr", overwrite=True)


def test_impossible_blocks_and_misfits_are_refused(tmp_path):
    spec = PyramidSpec(300, 300, tile=128)
    for block in (100, 384, 0):
        with pytest.raises(OutputError, match="cannot be a shard"):
            OmeZarr(tmp_path / "a.ome.zarr", spec, block=block)
    output = OmeZarr(tmp_path / "a.ome.zarr", spec, block=256)
    assert pickle.loads(pickle.dumps(output)) == output
    with pytest.raises(OutputError, match="are needed"):
        output.write(0, Region(0, 0, 256, 256), np.zeros((256, 256), np.uint8))


def test_attributes_of_others_are_no_provenance(tmp_path):
    zarr.create_group(tmp_path / "other.ome.zarr", zarr_format=3, attributes={"x": 1})
    assert read_provenance(tmp_path / "other.ome.zarr") is None
    (tmp_path / "odd.ome.zarr").mkdir()
    (tmp_path / "odd.ome.zarr" / "zarr.json").write_text(json.dumps([1]))
    assert read_provenance(tmp_path / "odd.ome.zarr") is None
