"""Slides from anywhere: encodings, links, numbers of any size, and structures that point astray."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dicom_files import write_dicom
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import SlideError
from reading import read_everything
from slide_files import make_stack, scan_bomb, write_folder, write_ome
from zarr_files import write_ome_zarr

SMALL = make_stack(3, 64, 64)
EDGES = [0, 1, 2, 63, 65, 2**15, 2**16, 2**18 + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 10**30]
ANY_INTEGER = st.sampled_from([*EDGES, *(-edge for edge in EDGES)]) | st.integers(-(2**70), 2**70)


# --- numbers


@pytest.fixture(scope="module")
def zarr_slide(tmp_path_factory) -> Path:
    return write_ome_zarr(tmp_path_factory.mktemp("zarr") / "s.zarr", SMALL, levels=1)


@settings(max_examples=40)
@given(key=st.sampled_from(["shape", "chunks"]), axis=st.integers(0, 4), value=ANY_INTEGER)
def test_sides_of_a_zarr_array_may_be_anything(zarr_slide, key, axis, value):
    file = zarr_slide / "0" / ".zarray"
    sound = file.read_text()
    about = json.loads(sound)
    about[key][axis] = value
    file.write_text(json.dumps(about))
    try:
        read_everything(zarr_slide)
    finally:
        file.write_text(sound)


@settings(max_examples=40)
@given(
    numbers=st.lists(
        ANY_INTEGER | st.floats() | st.text(max_size=3) | st.none() | st.booleans(), max_size=6
    )
)
def test_scales_of_a_zarr_image_may_be_anything(zarr_slide, numbers):
    file = zarr_slide / ".zattrs"
    sound = file.read_text()
    about = json.loads(sound)
    about["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = numbers
    file.write_text(json.dumps(about))
    try:
        read_everything(zarr_slide)
    finally:
        file.write_text(sound)


@pytest.fixture(scope="module", params=["full", "sparse"])
def dicom_slide(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "s"
    return next(write_dicom(folder, SMALL, levels=1, tile=32, tiling=request.param).iterdir())


UNSIGNED = {
    "Rows": 16,
    "Columns": 16,
    "TotalPixelMatrixRows": 32,
    "TotalPixelMatrixColumns": 32,
    "TotalPixelMatrixFocalPlanes": 32,
    "NumberOfOpticalPaths": 32,
    "SamplesPerPixel": 16,
    "BitsStored": 16,
}


@settings(max_examples=40)
@given(name=st.sampled_from([*UNSIGNED, "NumberOfFrames"]), value=ANY_INTEGER)
def test_sizes_of_a_dicom_image_may_be_anything(dicom_slide, name, value):
    sound = dicom_slide.read_bytes()
    dataset = pydicom.dcmread(dicom_slide)
    if name in UNSIGNED:
        setattr(dataset, name, value % 2 ** UNSIGNED[name])
    else:
        dataset.NumberOfFrames = value % 10**11
    dataset.save_as(dicom_slide)
    try:
        read_everything(dicom_slide)
    finally:
        dicom_slide.write_bytes(sound)


@pytest.mark.parametrize("place", [0, -1, -(2**31), 65, 2**31 - 1])
def test_a_tile_that_says_it_lies_outside_is_told(place, tmp_path):
    path = next(write_dicom(tmp_path / "s", SMALL, levels=1, tile=32, tiling="sparse").iterdir())
    dataset = pydicom.dcmread(path)
    group = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0]
    group.ColumnPositionInTotalImagePixelMatrix = place
    dataset.save_as(path)
    with pytest.raises(SlideError, match=r"is damaged or incomplete"):
        open_slide(path)


def test_offsets_of_tiles_outside_the_file_are_told(tmp_path):
    folder = write_dicom(tmp_path / "s", SMALL, levels=1, tile=32, codec="jpeg 2000")
    path = next(folder.iterdir())
    sound = path.read_bytes()
    table = sound.index(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff") + 12 + 8
    for offset in (2**32 - 2, len(sound), 3):
        path.write_bytes(sound[: table + 4] + offset.to_bytes(4, "little") + sound[table + 8 :])
        with open_slide(path) as slide, pytest.raises(SlideError, match="is damaged or incomplete"):
            slide.read_stack(slide.planes, 0, 0, 0, 64, 64)


def test_two_files_that_claim_to_be_the_same_are_one(tmp_path):
    folder = write_dicom(tmp_path / "s", SMALL, levels=1, tile=32)
    path = next(folder.iterdir())
    (folder / "copy.dcm").write_bytes(path.read_bytes())
    read_everything(folder)


# --- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_metadata_of_zarr_in_any_unicode(encoding, tmp_path):
    path = write_ome_zarr(tmp_path / "s.zarr", SMALL, about={"name": "載玻片"})
    for file in (path / ".zattrs", path / "0" / ".zarray"):
        file.write_bytes(file.read_text().encode(encoding))
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[1], 0, 0, 0, 64, 64) == SMALL[1]).all()


def test_metadata_in_no_encoding_at_all_are_told(tmp_path):
    path = write_ome_zarr(tmp_path / "s.zarr", SMALL)
    text = (path / ".zattrs").read_bytes()
    (path / ".zattrs").write_bytes(text.replace(b'"slide"', b'"\xe4\xff\xfe"'))
    with pytest.raises(SlideError, match=r"^s\.zarr is damaged"):
        open_slide(path)


def test_names_in_a_wrong_encoding_do_not_matter(tmp_path):
    path = next(write_dicom(tmp_path / "s", SMALL, levels=1, tile=32).iterdir())
    path.write_bytes(path.read_bytes().replace(b"Doe^Jane", b"D\xf6\xe9^J\xff\xfe\x80"))
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[1], 0, 0, 0, 64, 64) == SMALL[1]).all()


@pytest.mark.parametrize("junk", [b"\xff\xfe\xfa", b"\x00", b"&nothing;", b"]]>", b"<" * 50])
def test_ome_metadata_may_hold_anything(junk, tmp_path):
    path = write_ome(tmp_path / "s.ome.tif", SMALL, levels=1)
    xml = tifffile.tiffcomment(path).encode()
    tifffile.tiffcomment(path, xml.replace(b"</OME>", junk + b"</OME>"))
    read_everything(path)


def test_a_damaged_ome_description_is_told_once_and_by_us(tmp_path):
    path = write_ome(tmp_path / "s.ome.tif", SMALL, levels=1)
    xml = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, xml.replace("</OME>", "<<</OME>").encode())
    code = (
        "import sys\n"
        "from napari_focusfuse.readers import open_slide\n"
        "print(len(open_slide(sys.argv[1]).warnings))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_ome_metadata_without_end_are_refused(tmp_path):
    path = write_ome(tmp_path / "s.ome.tif", SMALL, levels=1)
    xml = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, xml.replace("</OME>", " " * (65 << 20) + "</OME>").encode())
    with pytest.raises(SlideError, match="description is larger than any real one"):
        open_slide(path)


# --- other files


def test_planes_in_another_file_are_not_followed(tmp_path):
    other = write_ome(tmp_path / "secret.ome.tif", 255 - SMALL, levels=1)
    path = write_ome(tmp_path / "s.ome.tif", SMALL, levels=1)
    xml = tifffile.tiffcomment(path)
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    names = ["s.ome.tif", str(other), f"../{tmp_path.name}/secret.ome.tif"]
    blocks = "".join(
        f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:'
        f"00000000-0000-0000-0000-00000000000{z}</UUID></TiffData>"
        for z, name in enumerate(names)
    )
    tifffile.tiffcomment(path, (xml[:start] + blocks + xml[end:]).encode())
    with open_slide(path) as slide:
        read = slide.read_stack(slide.planes, 0, 0, 0, 64, 64)
        assert not any((plane == secret).all() for plane in read for secret in 255 - SMALL)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_lead_to_slides_or_are_told(tmp_path):
    folder = write_folder(tmp_path / "planes", SMALL)
    (tmp_path / "link").symlink_to(folder)
    with open_slide(tmp_path / "link") as slide:
        assert (slide.read_region(slide.planes[1], 0, 0, 0, 64, 64) == SMALL[1]).all()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "broken.tif").symlink_to(tmp_path / "nowhere")
    for name in ("loop", "broken.tif"):
        with pytest.raises(SlideError):
            open_slide(tmp_path / name)
    (folder / "plane_9.png").symlink_to(tmp_path / "loop")
    (folder / "plane_10.png").symlink_to(tmp_path / "nowhere")
    with open_slide(folder) as slide:
        assert len(slide.planes) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_pipes_in_the_place_of_files_do_not_keep_us_waiting(tmp_path):
    path = write_ome_zarr(tmp_path / "s.zarr", SMALL, levels=1)
    chunk = path / "0" / "0" / "0" / "0" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 64, 64)[..., 0] == 0).all()
    dicom = write_dicom(tmp_path / "d", SMALL, levels=1, tile=32)
    os.mkfifo(dicom / "pipe.dcm")
    with open_slide(dicom) as slide:
        assert len(slide.planes) == 3


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path):
    folder = write_folder(tmp_path / "planes", SMALL)
    for size, message in (
        ((60_000, 60_000), "too large to be decoded whole"),
        ((0, 64), "damaged"),
    ):
        data = bytearray((folder / "plane_1.png").read_bytes())
        data[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (folder / "plane_1.png").write_bytes(data)
        with pytest.raises(SlideError, match=message):
            open_slide(folder)


def test_a_picture_of_scans_without_end_is_refused(tmp_path):
    """One that a decoder goes over two thousand times, and more in a larger file."""
    bomb = scan_bomb(64)
    with Image.open(io.BytesIO(bomb)) as image:
        assert image.convert("RGB").getpixel((9, 9)) == pytest.approx((200, 100, 50), abs=3)
    folder = write_folder(tmp_path / "planes", SMALL)
    (folder / "plane_1.png").unlink()
    (folder / "plane_1.jpg").write_bytes(bomb)
    with (
        open_slide(folder) as slide,
        pytest.raises(SlideError, match=r"^plane_1\.jpg is damaged.*a JPEG image of 20\d\d scans"),
    ):
        slide.read_stack(slide.planes, 0, 0, 0, 10, 10)


def test_an_animation_gives_its_first_picture_only(tmp_path):
    frames = [Image.fromarray(plane) for plane in SMALL]
    folder = write_folder(tmp_path / "planes", SMALL)
    frames[0].save(folder / "plane_1.png", save_all=True, append_images=frames[1:])
    with open_slide(folder) as slide:
        assert len(slide.planes) == 3
        assert np.array_equal(slide.read_region(slide.planes[0], 0, 0, 0, 64, 64), SMALL[0])
