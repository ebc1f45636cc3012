"""Files from anywhere: our one error or a readable slide, and never memory for what they claim."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import SlideError, UnsupportedSlideError
from reading import read_everything
from slide_files import (
    make_stack,
    scan_bomb,
    write_aperio,
    write_folder,
    write_ndpi,
    write_ome,
    write_pages,
)

SMALL = make_stack(3, 64, 128)
WRITERS: dict[str, Callable[[Path], Path]] = {
    "ome": lambda folder: write_ome(folder / "s.ome.tif", SMALL, levels=2, tile=32),
    "jpeg": lambda folder: write_ome(
        folder / "s.ome.tif", SMALL, levels=2, tile=32, compression="jpeg"
    ),
    "pages": lambda folder: write_pages(folder / "s.tif", SMALL),
    "ndpi": lambda folder: write_ndpi(folder / "s.ndpi", SMALL, [0, -2700, 2700]),
    "aperio": lambda folder: write_aperio(folder / "s.svs", SMALL, [-1, 0, 1]),
}


@pytest.fixture(scope="module", params=WRITERS)
def whole(request, tmp_path_factory) -> tuple[str, bytes]:
    """Return the name and bytes of a sound file."""
    path = WRITERS[request.param](tmp_path_factory.mktemp(request.param))
    return path.name, path.read_bytes()


@pytest.mark.parametrize("part", range(1, 16))
def test_a_truncated_file_is_told_or_readable(whole, part, tmp_path, open_files):
    name, data = whole
    path = tmp_path / name
    path.write_bytes(data[: len(data) * part // 16])
    read_everything(path)
    assert open_files(tmp_path) == []


def test_a_file_without_its_last_bytes_is_refused_when_it_is_opened(tmp_path):
    path = write_pages(tmp_path / "s.tif", SMALL)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SlideError, match=r"^s\.tif is damaged or incomplete .*copy or export"):
        open_slide(path)


@settings(max_examples=60)
@given(data=st.data())
def test_flipped_bytes_are_told_or_readable(whole, tmp_path_factory, data):
    name, sound = whole
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        # Directories are where the harm is; half of the hits go to small numbers near them.
        place = data.draw(st.integers(0, len(broken) - 1))
        broken[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF]) | st.integers(0, 255))
    path = tmp_path_factory.mktemp("flipped") / name
    path.write_bytes(broken)
    read_everything(path)


@settings(max_examples=60)
@given(place=st.integers(0, 10_000), value=st.sampled_from([0, 1, 0xFFFF, 2**31 - 1, 2**32 - 1]))
def test_numbers_in_directories_may_be_anything(whole, tmp_path_factory, place, value):
    name, sound = whole
    entries = [
        i
        for code in (256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 324, 325, 330, 65426)
        for i in find_all(sound, struct.pack("<H", code))
    ]
    start = entries[place % len(entries)] + (4 if place % 3 == 0 else 8)
    path = tmp_path_factory.mktemp("numbers") / name
    path.write_bytes(sound[:start] + struct.pack("<I", value) + sound[start + 4 :])
    read_everything(path)


def find_all(data: bytes, what: bytes) -> list[int]:
    places, at = [], data.find(what)
    while at >= 0:
        places.append(at)
        at = data.find(what, at + 1)
    return places


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^x\.tif is empty; copy or export it again\.$"),
        (b"II*\0", "damaged or incomplete"),
        (b"II*\0" + bytes(30), "holds no image"),
        (b"II*\0\x08\0\0\0" + bytes(30), "claims 0 entries"),
        (b"II*\0\xff\xff\xff\x7f" + bytes(20), "lies outside the file"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "lies outside the file"),
        (b"hello, this is text and no slide at all", "is not a slide any reader knows; open an"),
        (bytes(range(256)) * 8, "is not a slide any reader knows"),
    ],
    ids=["empty", "cut", "no page", "no tag", "far", "far big", "text", "bytes"],
)
def test_what_is_no_slide_is_told(content, message, tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(SlideError, match=message):
        open_slide(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SlideError, match=r"nothing\.tif does not exist; check the path\.$"):
        open_slide(tmp_path / "nothing.tif")


def test_a_single_picture_is_told(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(SMALL[0]).save(path)
    with pytest.raises(UnsupportedSlideError, match="or a folder with one image per focus layer"):
        open_slide(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_neither_file_nor_folder_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SlideError, match="is not a file"):
        open_slide(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["with space.tif", "ünïcode 載玻片.tif", "a#b%20.tif", "dot..tif"])
def test_any_name_is_fine(name, tmp_path):
    folder = tmp_path / f"in {name}"
    folder.mkdir()
    with open_slide(write_pages(folder / name, SMALL)) as slide:
        assert (slide.read_region(slide.planes[2], 0, 0, 0, 64, 128) == SMALL[2]).all()
    with open_slide(str(write_folder(folder, SMALL[:2]) / name)) as slide:
        assert len(slide.planes) == 3


def test_a_mirax_file_without_its_folder_says_what_to_keep(tmp_path):
    (tmp_path / "s.mrxs").write_bytes(b"\xff\xd8\xff\xe0 an overview")
    with pytest.raises(UnsupportedSlideError, match="Keep the folder of the same name beside it"):
        open_slide(tmp_path / "s.mrxs")


def test_directories_in_a_loop_are_told(tmp_path):
    path = write_pages(tmp_path / "s.tif", SMALL, tile=(32, 32))
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", data, offsets[-1])
    struct.pack_into("<I", data, offsets[-1] + 2 + 12 * count, offsets[0])
    path.write_bytes(data)
    with pytest.raises(SlideError, match="form a loop"):
        open_slide(path)


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        (256, 2**31 - 1, r"claims an image side of 2147483647 pixels"),
        (256, 0, r"claims an image side of 0 pixels"),
        (257, 600_000, r"claims an image side of 600000 pixels"),
        (322, 16_384, r"claims a tile side of 16384 pixels"),
        (325, 2**32 - 1, r"beyond the end"),
    ],
)
def test_claimed_sizes_are_refused_before_memory_is_taken(code, value, message, tmp_path):
    path = write_pages(tmp_path / "s.tif", make_stack(2, 32, 32), tile=(32, 32))
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[code]
    data = bytearray(path.read_bytes())
    struct.pack_into("<HI", data, tag.offset + 2, 4, 1)  # one 32-bit number, whatever it was
    struct.pack_into("<I", data, tag.offset + 8, value)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=message):
        open_slide(path)


def replace_tile(path: Path, tile: bytes, compression: int) -> None:
    """Let the only tile of the first page be another one, appended to the file."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        for tag, value in ((324, len(data)), (325, len(tile)), (259, compression), (262, 2)):
            struct.pack_into("<HII", data, tags[tag].offset + 2, 4, 1, value)
    path.write_bytes(data + tile)


def test_a_tile_of_scans_without_end_is_refused(tmp_path):
    path = write_pages(tmp_path / "s.tif", make_stack(2, 64, 64), tile=(64, 64), compression="jpeg")
    replace_tile(path, scan_bomb(64), 7)
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"JPEG image of 20\d\d scans"):
        slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "png"])
def test_a_tile_that_claims_to_be_huge_is_refused_before_it_is_decoded(compression, tmp_path):
    import imagecodecs

    path = write_pages(tmp_path / "s.tif", make_stack(2, 64, 64), tile=(64, 64), compression="jpeg")
    big = np.zeros((4096, 4096, 3), np.uint8)
    encode = {"jpeg": "jpeg8", "jpeg2000": "jpeg2k"}.get(compression, compression)
    bomb = getattr(imagecodecs, f"{encode}_encode")(big)
    code = {"jpeg": 7, "jpeg2000": 34712, "webp": 50001, "png": 34933}[compression]
    replace_tile(path, bomb, code)
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"a tile says it is \(4096"):
        slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)


def test_a_strip_that_claims_to_be_huge_is_refused(tmp_path):
    path = tmp_path / "s.tif"
    write_pages(path, make_stack(2, 32, 32), compression="deflate", rowsperstrip=32)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            for code in (256, 257, 278):
                struct.pack_into("<HII", data, page.tags[code].offset + 2, 4, 1, 100_000)
    path.write_bytes(data)
    with pytest.raises(SlideError, match="export it with small tiles"):
        open_slide(path)


@pytest.mark.parametrize("axis", ["Z", "T"])
def test_a_stack_that_claims_a_billion_images_is_refused(axis, tmp_path):
    path = write_ome(tmp_path / "s.ome.tif", SMALL, levels=1)
    xml = re.sub(rf'Size{axis}="\d"', f'Size{axis}="999999999"', tifffile.tiffcomment(path))
    tifffile.tiffcomment(path, xml.encode())
    with pytest.raises(SlideError, match=r"claims \d+ images"):
        open_slide(path)


def test_a_shape_that_a_comment_claims_is_not_believed(tmp_path):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, SMALL, photometric="rgb")
    tifffile.tiffcomment(path, b'{"shape": [99999999, 64, 128, 3]}')
    with open_slide(path) as slide:
        assert len(slide.planes) == 3


def test_an_imagej_stack_is_read_and_its_claims_are_checked(tmp_path):
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, SMALL, photometric="rgb", imagej=True, metadata={"axes": "ZYXS"})
    with open_slide(path) as slide:
        assert (slide.read_stack(slide.planes, 0, 0, 0, 64, 128) == SMALL).all()
    claim = tifffile.tiffcomment(path).replace("=3", "=99999999")
    tifffile.tiffcomment(path, claim.encode())
    read_everything(path)


def test_intervals_of_a_scanners_jpeg_lie_in_the_file(tmp_path):
    path = write_ndpi(tmp_path / "s.ndpi", SMALL, [0, -2700, 2700])
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[65426].valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, place + 8, 2**32 - 1)  # read up to there would be 4 GB
    path.write_bytes(data)
    with pytest.raises(SlideError, match="parts of its image data lie beyond the end"):
        open_slide(path)


def test_entities_that_multiply_are_refused(tmp_path):
    path = write_ome(tmp_path / "s.ome.tif", SMALL, levels=1)
    steps = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12)]
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "{"x" * 1000}">{"".join(steps)}]><OME>&e11;</OME>'
    tifffile.tiffcomment(path, ('<?xml version="1.0"?>' + bomb).encode())
    read_everything(path)
