from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.napari_reader import get_reader
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import PlaneError, SlideError, UnsupportedSlideError
from reading import read_everything
from slide_files import Stack, halved, make_stack, pyramid, write_folder
from zarr_files import write_ome_zarr

ZSTD = zarr.codecs.ZstdCodec()
CASES: dict[str, dict[str, Any]] = {
    "0.4": {},
    "0.5": {"version": "0.5"},
    "0.4, dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "0.4, zlib": {"compressors": numcodecs.Zlib()},
    "0.4, gzip": {"compressors": numcodecs.GZip()},
    "0.4, blosc": {"compressors": numcodecs.Blosc(cname="lz4", shuffle=1)},
    "0.4, uncompressed": {"compressors": None},
    "0.4, zstd": {"compressors": numcodecs.Zstd()},
    "0.4, Fortran order": {"order": "F"},
    "0.4, without time": {"axes": "czyx"},
    "0.4, colour last": {"axes": "zyxc"},
    "0.4, odd chunks": {"chunk": 50},
    "0.5, gzip": {"version": "0.5", "compressors": zarr.codecs.GzipCodec()},
    "0.5, blosc": {"version": "0.5", "compressors": zarr.codecs.BloscCodec()},
    "0.5, checksum": {"version": "0.5", "compressors": [ZSTD, zarr.codecs.Crc32cCodec()]},
    "0.5, shards": {"version": "0.5", "shards": 128, "compressors": ZSTD},
    "0.5, transposed": {"version": "0.5", "axes": "czyx",
                        "filters": zarr.codecs.TransposeCodec(order=(3, 1, 2, 0))},
    "0.5, keys of version 2": {
        "version": "0.5", "chunk_key_encoding": {"name": "v2", "separator": "."}
    },
}  # fmt: skip


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_stack_reads_as_it_was_written(options, tmp_path, stack, open_files):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", stack, **options)
    with open_slide(path) as slide:
        assert (slide.format, slide.zero, slide.extended) == ("ome-zarr", 1, None)
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert [plane.z_um for plane in slide.planes] == pytest.approx([0, 2.7, 5.4])
        assert (slide.not_shown, slide.warnings) == ([], [])
        for level, image in enumerate(pyramid(stack, 2)):
            assert slide.levels[level].shape == image.shape[1:3]
            assert slide.levels[level].downsample == (2**level, 2**level)
            assert (slide.read_stack(slide.planes, level, 0, 0, *image.shape[1:3]) == image).all()
        part = slide.read_region(slide.planes[2], 0, 13, 7, 100, 91)
        assert (part == stack[2, 13:113, 7:98]).all()
    assert open_files(tmp_path) == []


def test_the_zarr_library_reads_the_same(tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, version="0.5", shards=128)
    array = zarr.open_array(path / "1", mode="r")
    with open_slide(path) as slide:
        read = slide.read_region(slide.planes[1], 1, 5, 6, 70, 80)
        assert (read.transpose(2, 0, 1) == array[0, :, 1, 5:75, 6:86]).all()


@pytest.mark.parametrize(
    ("options", "heights", "mpp"),
    [
        ({"lowest": -2.7}, [-2.7, 0, 2.7], (0.5, 0.25)),
        ({"unit": "nanometer"}, [0, 0.0027, 0.0054], (0.0005, 0.00025)),
        ({"unit": "millimeter"}, [0, 2700, 5400], (500, 250)),
        ({"unit": None}, [None] * 3, None),
        ({"unit": "parsec"}, [None] * 3, None),
        ({"scale": {"z": 0.0, "y": 0.5, "x": 0.25}}, [None] * 3, (0.5, 0.25)),
        ({"scale": {"z": -1.0, "y": -0.5, "x": 0.25}}, [None] * 3, None),
    ],
)
def test_sizes_are_what_the_file_says_or_unknown(options, heights, mpp, tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1, **options)
    with open_slide(path) as slide:
        found = [plane.z_um for plane in slide.planes]
        assert found == ([None] * 3 if None in heights else pytest.approx(heights))
        assert slide.mpp == (mpp if mpp is None else pytest.approx(mpp))
        assert slide.zero == 1


def test_what_is_not_shown_is_told(tmp_path, stack):
    path = write_ome_zarr(
        tmp_path / "s.zarr", stack, times=3, images=[stack[:, :80, :90]], levels=2
    )
    (path / "labels").mkdir()
    with open_slide(path) as slide:
        assert slide.not_shown == [
            "2 of 3 time points",
            "label images",
            "image 'slide' of 90 x 80 pixels",
        ]
        assert (slide.read_stack(slide.planes, 0, 0, 0, 256, 320) == stack).all()


def test_a_level_with_fewer_planes_is_left_out_and_told(tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=2)
    shutil.rmtree(path / "1")
    write_ome_zarr(tmp_path / "fewer.zarr", halved(stack)[:2], levels=1)
    shutil.move(tmp_path / "fewer.zarr" / "0", path / "1")
    with open_slide(path) as slide:
        assert len(slide.levels) == 1
        assert slide.not_shown == ["a level of 160 x 128 pixels with other focus layers"]


def test_a_conversion_by_bioformats2raw_is_opened_by_its_top_folder(tmp_path, stack):
    top = tmp_path / "s.zarr"
    write_ome_zarr(top / "0", stack)
    write_ome_zarr(top / "1", stack[:1, :50, :60], levels=1)
    (top / ".zgroup").write_text('{"zarr_format": 2}')
    (top / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    with open_slide(top) as slide:
        assert len(slide.planes) == 3
        assert slide.not_shown == ["image 'slide' of 60 x 50 pixels"]
        assert (slide.read_stack(slide.planes, 0, 0, 0, 256, 320) == stack).all()


def test_a_chunk_that_is_not_stored_has_the_fill_value(tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1, fill_value=255)
    for colour in range(3):
        (path / "0" / "0" / str(colour) / "0" / "0" / "1").unlink()
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 64, 64, 64) == 255).all()
        assert (slide.read_region(slide.planes[1], 0, 0, 64, 64, 64) == stack[1, :64, 64:128]).all()


def test_the_viewer_opens_it_as_a_folder(tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.ome.zarr", stack, version="0.5")
    read = get_reader(str(path))
    assert read is not None
    ((levels, keywords, _),) = read(str(path))
    assert np.array_equal(np.asarray(levels[0][1]), stack[1])
    assert keywords["metadata"][KEY]["planes"] == ("Plane 1", "Plane 2", "Plane 3")


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        (["FF0000", "00FF00", "0000FF"], None),
        (["ff0000", "00ff00", "0000ff"], None),
        (["00FF00", "FF00FF", "FFFFFF"], "3 channels of the colours 00FF00"),
    ],
)
def test_three_channels_are_a_colour_image_unless_the_file_says_otherwise(
    colours, message, tmp_path, stack
):
    about = {"omero": {"channels": [{"color": colour} for colour in colours]}}
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1, about=about)
    if message is None:
        with open_slide(path) as slide:
            assert len(slide.planes) == 3
        return
    with pytest.raises(UnsupportedSlideError, match=message):
        open_slide(path)
    assert get_reader(str(path)) is None  # another plugin shows it


def test_other_arrays_are_refused_in_one_sentence(tmp_path):
    grey = np.zeros((3, 64, 64, 1), np.uint8)
    path = write_ome_zarr(tmp_path / "grey.zarr", grey, levels=1)
    with pytest.raises(UnsupportedSlideError, match=r"^grey\.zarr holds a grey image, and"):
        open_slide(path)
    deep = tmp_path / "deep.zarr"
    write_ome_zarr(deep, make_stack(2, 64, 64), levels=1)
    shutil.rmtree(deep / "0")
    zarr.create_array(deep, name="0", shape=(1, 3, 2, 64, 64), dtype="uint16", zarr_format=2)
    with pytest.raises(UnsupportedSlideError, match=r"^deep\.zarr holds u2 values"):
        open_slide(deep)
    plain = tmp_path / "plain.zarr"
    zarr.create_array(plain, shape=(64, 64, 3), dtype="uint8")
    with pytest.raises(UnsupportedSlideError, match="without an OME-Zarr image"):
        open_slide(plain)
    assert get_reader(str(plain)) is None


def test_a_plate_is_told(tmp_path):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / ".zattrs").write_text('{"plate": {"wells": []}}')
    with pytest.raises(UnsupportedSlideError, match="is a plate of many wells"):
        open_slide(tmp_path)


def change(file: Path, **values: Any) -> None:
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": [1, 3, 3, 10**9, 320]}, "claims 320 x 1000000000 pixels|chunks of"),
        ({"shape": [1, 3, 3, 0, 320]}, "claims shape"),
        ({"shape": [1, 3, 3, -5, 320]}, "claims shape"),
        ({"shape": [3, 256, 320]}, "claims shape"),
        ({"shape": [1, 3, 5000, 256, 320]}, "5000 focus layers"),
        ({"chunks": [1, 1, 1, 1 << 20, 1 << 20]}, "claims 9 chunks of"),
        ({"chunks": [1, 1, 1, 0, 64]}, "claims shape"),
        ({"filters": [{"id": "pickle"}]}, "chunks stored by pickle"),
        ({"compressor": {"id": "jpegxl"}}, "chunks stored by jpegxl"),
        ({"chunks": "many"}, "damaged"),
        ({"shape": [1, 3, 3, 10**6, 10**6], "chunks": [1, 1, 1, 1, 1]}, "chunks of"),
    ],
)
def test_claims_are_refused_before_memory_is_taken(values, message, tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1)
    change(path / "0" / ".zarray", **values)
    with pytest.raises(SlideError, match=message):
        open_slide(path)


@pytest.mark.parametrize(
    "place",
    [
        "../other.zarr/0",
        "/etc",
        "0/../../other.zarr/0",
        pytest.param(
            "link", marks=pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
        ),
    ],
)
def test_a_folder_outside_the_slide_is_refused(place, tmp_path, stack):
    write_ome_zarr(tmp_path / "other.zarr", stack, levels=1)
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1)
    if place == "link":
        (path / "link").symlink_to(tmp_path / "other.zarr" / "0")
    about = json.loads((path / ".zattrs").read_text())
    about["multiscales"][0]["datasets"][0]["path"] = place
    (path / ".zattrs").write_text(json.dumps(about))
    with pytest.raises(SlideError, match="refers to a folder outside itself"):
        open_slide(path)


@pytest.mark.parametrize("compressor", ["gzip", "zstd", "blosc", "zlib"])
def test_a_chunk_that_unfolds_beyond_its_size_is_refused(compressor, tmp_path, stack):
    codec = {"gzip": numcodecs.GZip(), "zstd": numcodecs.Zstd(), "blosc": numcodecs.Blosc(),
             "zlib": numcodecs.Zlib()}[compressor]  # fmt: skip
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1, compressors=codec)
    bomb = codec.encode(bytes(50 << 20))
    assert len(bomb) < 1 << 20
    (path / "0" / "0" / "0" / "0" / "0" / "0").write_bytes(bomb)
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"^s\.zarr is damaged"):
        slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)


def test_shards_that_point_elsewhere_are_told(tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1, version="0.5", shards=128)
    file = path / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    for first, size in ((2**63, 100), (0, 2**40), (len(data) - 5, 100)):
        data[-68:-52] = np.array([first, size], "<u8").tobytes()
        file.write_bytes(data)
        with open_slide(path) as slide, pytest.raises(SlideError, match=r"^s\.zarr is damaged"):
            slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"multiscales": 5}', "[" * 100_000])
def test_metadata_may_be_anything(text, tmp_path, stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1)
    (path / ".zattrs").write_text(text)
    with pytest.raises(SlideError):
        open_slide(path)
    (path / ".zattrs").write_bytes(b" " * (5 << 20))
    with pytest.raises(SlideError, match="larger than any real one"):
        open_slide(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_flipped_bytes_are_told_or_readable(version, tmp_path):
    small = make_stack(2, 64, 64)
    path = write_ome_zarr(tmp_path / "s.zarr", small, levels=1, version=version)
    files = [file for file in path.rglob("*") if file.is_file()]
    rng = np.random.default_rng(0)
    for _ in range(100):
        file = files[rng.integers(len(files))]
        sound = file.read_bytes()
        broken = bytearray(sound)
        for place in rng.integers(0, len(sound), 2):
            broken[place] = rng.integers(256)
        file.write_bytes(broken[: rng.integers(1, len(sound) + 1)])
        read_everything(path)
        file.write_bytes(sound)
    with open_slide(path) as slide:
        assert (slide.read_stack(slide.planes, 0, 0, 0, 64, 64) == small).all()


def test_a_closed_slide_says_so_and_layer_zero_can_be_chosen(tmp_path, stack: Stack):
    path = write_ome_zarr(tmp_path / "s.zarr", stack, levels=1)
    with open_slide(path, zero=2) as slide:
        assert slide.zero == 2
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read_region(slide.planes[0], 0, 0, 0, 5, 5)
    with pytest.raises(PlaneError, match="must be 0 to 2, not 3"):
        open_slide(path, zero=3)


def test_a_folder_of_pictures_stays_one(tmp_path, stack):
    write_folder(tmp_path / "planes", stack)
    with open_slide(tmp_path / "planes") as slide:
        assert slide.format == "folder"
