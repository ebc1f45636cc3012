"""MIRAX slides from anywhere: one sentence or a readable slide, and never memory for claims."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrxs_files import FIRST_PAYLOAD, Layout, edit_ini, focus_slots, write_mrxs
from napari_focusfuse.readers import apart, open_slide
from napari_focusfuse.readers.mrxs_files import RangeReader, SlideFolder
from napari_focusfuse.readers.probe import VARIABLE
from napari_focusfuse.slide import SlideError
from reading import read_everything
from slide_files import make_stack, scan_bomb

LAYERS = list(make_stack(3, 100, 150))
LAYOUT = Layout(
    tile=(16, 24), divisions=2, overlap=(4, 4), positions="vimslide", codec="JPEG", mask=True,
    associated={"macro": LAYERS[0]}, images_per_file=40, page=16,
)  # fmt: skip
SLOTS = focus_slots(LAYERS[:2], fused=LAYERS[2])
EDGES = [0, 1, 2, 3, 8, 15, 17, 2**15, 2**16, 2**18, 2**20, 2**31 - 1, 2**31, 2**63 - 1, 10**30]
NUMBERS = st.sampled_from([*EDGES, *(-edge for edge in EDGES)]) | st.integers(-(2**40), 2**40)
MOST_BYTES = 256 << 20
PER_SLOT = 3 * 2 * 3
"""Records of a slot: zoom levels, masks, filters."""
RECORDS = PER_SLOT * len(SLOTS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return write_mrxs(tmp_path_factory.mktemp("sound") / "s.mrxs", SLOTS, LAYOUT)


@pytest.fixture
def slide(sound, tmp_path) -> Path:
    """Return a copy to be damaged."""
    return copied(sound, tmp_path)


def copied(sound: Path, folder: Path) -> Path:
    shutil.copytree(sound.with_suffix(""), folder / "s")
    return Path(shutil.copy(sound, folder))


def read_all(path: Path) -> None:
    """Read pixels, structure and extent; a fault is one sentence, and memory stays small."""
    tracemalloc.start()
    try:
        read_everything(path)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < MOST_BYTES


# --- cut short


def boundaries(path: Path) -> list[int]:
    """Return where something begins in the index: heads, tables, pages and entries of a page."""
    data = (path.with_suffix("") / "Index.dat").read_bytes()
    roots = struct.unpack_from("<ii", data, 37)
    starts = struct.unpack_from(f"<{RECORDS}i", data, roots[0])
    found = {0, 4, 5, 37, 41, 45, *roots, *starts}
    for head in filter(None, starts):
        (page,) = struct.unpack_from("<i", data, head + 4)
        found |= {page, page + 4, page + 8, page + 8 + 16, page + 8 + 20}
    return sorted(place for place in found if 0 <= place < len(data))


def test_an_index_cut_anywhere_is_told_or_readable(slide, open_files):
    index = slide.with_suffix("") / "Index.dat"
    data, places = index.read_bytes(), boundaries(slide)
    assert len(places) > 60
    for place in places:
        index.write_bytes(data[:place])
        read_all(slide)
    for place in places[:10]:
        index.write_bytes(data[:place])
        with pytest.raises(SlideError, match=r"^s\.mrxs is damaged or incomplete \(Index\.dat "):
            open_slide(slide)
    assert open_files(slide.parent) == []


@pytest.mark.parametrize("part", range(0, 8))
def test_an_ini_cut_anywhere_is_told_or_readable(slide, part):
    ini = slide.with_suffix("") / "Slidedat.ini"
    data = ini.read_bytes()
    ini.write_bytes(data[: len(data) * part // 8])
    read_all(slide)


@pytest.mark.parametrize("length", [0, 5, FIRST_PAYLOAD, FIRST_PAYLOAD + 100])
def test_a_data_file_cut_short_is_told(slide, length, open_files):
    file = slide.with_suffix("") / "Data0000.dat"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(SlideError, match=r"points outside the data files, so one of them may be"):
        open_slide(slide)
    assert open_files(slide.parent) == []


def test_a_missing_data_file_is_named(slide):
    (slide.with_suffix("") / "Data0002.dat").unlink()
    with pytest.raises(SlideError, match=r"Data0002\.dat is missing; copy the whole folder of the"):
        open_slide(slide)


def test_files_that_change_while_a_slide_is_open_are_told(slide, open_files):
    folder = slide.with_suffix("")
    with open_slide(slide) as opened:
        for file in folder.glob("Data*"):
            with file.open("r+b") as stream:
                stream.truncate(FIRST_PAYLOAD)
        with pytest.raises(
            SlideError, match=r"^Data\d{4}\.dat of s\.mrxs changed while it was open"
        ):
            opened.read_region(opened.planes[0], 0, 0, 0, 90, 90)
    assert open_files(slide.parent) == []


def test_a_file_that_ends_too_early_is_told(slide, open_files):
    """Where a file is cut between the look at it and the read."""
    folder = SlideFolder(slide)
    file = folder.file("Data0000.dat")
    reader = RangeReader(folder)
    with pytest.raises(
        SlideError, match=rf"ends before byte {file.size + 1}, where data should be"
    ):
        reader.read(file.path, file.size - 9, 10)
    reader.close()
    assert open_files(slide.parent) == []


def test_files_that_go_away_while_a_slide_is_open_are_told(tmp_path):
    path = write_mrxs(tmp_path / "s.mrxs", SLOTS, Layout(tile=(16, 24), images_per_file=1))
    with open_slide(path) as opened:
        shutil.rmtree(path.with_suffix(""))
        with pytest.raises(SlideError, match=r"^Index\.dat of s\.mrxs disappeared while it"):
            opened.read_region(opened.planes[1], 0, 0, 0, 90, 90)


# --- names of files


OUTSIDE = [
    "../secret.dat", "/etc/passwd", "..\\secret.dat", "C:\\secret.dat", "C:secret.dat",
    "sub/Data0000.dat", "sub\\Data0000.dat", "\\\\host\\share\\x.dat", "..", ".", "...", "",
    "Data0000.dat:stream", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["FILE_0 = Data0000.dat", "INDEXFILE = Index.dat"])
def test_names_that_lead_out_of_the_folder_are_refused(slide, name, key):
    (slide.parent / "secret.dat").write_bytes(bytes(1000))
    edit_ini(slide, (key, f"{key.partition(' ')[0]} = {name}"))
    with pytest.raises(SlideError, match="refers to a file outside its folder"):
        open_slide(slide)


@pytest.mark.parametrize("name", ["Data0000.dat", "Index.dat", "Slidedat.ini"])
def test_links_that_lead_out_of_the_folder_are_refused(slide, name):
    file = slide.with_suffix("") / name
    moved = slide.parent / name
    shutil.move(file, moved)
    file.symlink_to(moved)
    with pytest.raises(SlideError, match="refers to a file outside its folder"):
        open_slide(slide)
    file.unlink()
    shutil.move(moved, file.with_name("other.dat"))
    file.symlink_to(file.with_name("other.dat"))  # which stays inside
    open_slide(slide).close()


def test_a_slide_whose_folder_is_a_link_is_read(slide, tmp_path):
    shutil.move(slide.with_suffix(""), tmp_path / "elsewhere")
    slide.with_suffix("").symlink_to(tmp_path / "elsewhere")
    open_slide(slide).close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["Data0000.dat", "Index.dat"])
def test_what_is_no_file_is_refused(slide, name):
    file = slide.with_suffix("") / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SlideError, match=f"{name} is no file"):
        open_slide(slide)


# --- the ini file


def test_an_ini_of_ten_megabytes_is_refused(slide):
    ini = slide.with_suffix("") / "Slidedat.ini"
    ini.write_bytes(ini.read_bytes() + b"x = 1\r\n" * 1_500_000)
    with pytest.raises(SlideError, match=r"its Slidedat\.ini of 10 MB is larger than any real one"):
        open_slide(slide)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.decode("utf-8-sig").encode("utf-16"),
        lambda data: data.decode("utf-8-sig").encode(),
        lambda data: data.replace(b"\r\n", b"\n"),
        lambda data: data.replace(
            b"[GENERAL]", b"[GENERAL]\r\n= x\r\nIMAGENUMBER_X = 1\r\n\xff\xfe"
        ),
        lambda data: data.replace(b"Red", "Müller".encode("latin-1")),
    ],
    ids=["utf-16", "no mark", "unix", "repeated and empty keys", "latin-1"],
)
def test_encodings_and_oddities_of_the_ini(slide, change):
    ini = slide.with_suffix("") / "Slidedat.ini"
    ini.write_bytes(change(ini.read_bytes()))
    with open_slide(slide) as opened:
        assert len(opened.planes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("IMAGENUMBER_X = 6", "IMAGENUMBER_X = 1000000000"), "not 1 to 524288"),
        (("IMAGENUMBER_X = 6", "IMAGENUMBER_X = -4"), r"IMAGENUMBER_X in \[GENERAL\] is '-4'"),
        (("IMAGENUMBER_X = 6", "IMAGENUMBER_X = 9"), "are not whole photos of 2 a side"),
        (("IMAGENUMBER_X = 6\r", ""), r"IMAGENUMBER_X in \[GENERAL\] is missing"),
        (("IMAGENUMBER_X = 6", "IMAGENUMBER_X = 500000"), "11000004 x 88 pixels"),
        (("DIGITIZER_WIDTH = 24", "DIGITIZER_WIDTH = 100000"), "not 16 to 8192"),
        (("IMAGE_CONCAT_FACTOR = 1", "IMAGE_CONCAT_FACTOR = 31"), "not 1 to 16"),
        (("FILE_COUNT = ", "FILE_COUNT = 9999"), "not 1 to 32768"),
        (("HIER_1_COUNT = 2", "HIER_1_COUNT = 2000000000"), "not 1 to 4096"),
        (("HIER_0_NAME = Slide zoom level", "HIER_0_NAME = x"), "names no zoom levels"),
        (("SLIDE_ID = 0", "SLIDE_ID = 1"), "belongs to another slide"),
        (("PAGEELEMENTCOUNT = 16", "PAGEELEMENTCOUNT = 0"), "PAGEELEMENTCOUNT"),
    ],
)
def test_numbers_that_cannot_be_are_told(slide, change, message):
    edit_ini(slide, change)
    with pytest.raises(SlideError, match=rf"^s\.mrxs is damaged or incomplete \(.*{message}"):
        open_slide(slide)


# --- the index


def place_of_list(slide: Path, record: int = 0) -> tuple[int, int]:
    """Return where the head and the first page of a record lie."""
    data = (slide.with_suffix("") / "Index.dat").read_bytes()
    (table,) = struct.unpack_from("<i", data, 37)
    (head,) = struct.unpack_from("<i", data, table + 4 * record)
    return head, struct.unpack_from("<i", data, head + 4)[0]


def patch_index(slide: Path, at: int, *values: int) -> None:
    index = slide.with_suffix("") / "Index.dat"
    data = bytearray(index.read_bytes())
    struct.pack_into(f"<{len(values)}i", data, at, *values)
    index.write_bytes(data)


@pytest.mark.parametrize("count", [16, 0], ids=["full pages", "empty pages"])
def test_pages_in_a_loop_are_told(slide, count):
    _, page = place_of_list(slide)
    patch_index(slide, page, count, page)
    with pytest.raises(SlideError, match=r"pages form a loop|damaged list"), open_slide(slide) as s:
        s.read_region(s.extended, 0, 0, 0, 10, 10)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 10**6, "an image outside the 6 x 6"),
        (0, -1, "an image outside"),
        (1, -5, "points outside the data files"),
        (1, 2**31 - 1, "points outside the data files"),
        (2, 0, "points outside the data files"),
        (2, 2**31 - 1, "points outside the data files"),
        (2, -(2**31), "points outside the data files"),
        (3, 99, "names a data file that does not exist"),
        (3, -1, "names a data file that does not exist"),
    ],
)
def test_entries_that_point_nowhere_are_told(slide, field, value, message):
    _, page = place_of_list(slide)
    patch_index(slide, page + 8 + 4 * field, value)
    with pytest.raises(SlideError, match=rf"^s\.mrxs is damaged.*{message}"):
        open_slide(slide)


@pytest.mark.parametrize("value", [-8, 2**31 - 1, 44])
def test_lists_that_begin_nowhere_are_told(slide, value):
    head, _ = place_of_list(slide)
    patch_index(slide, head + 4, value)
    with pytest.raises(SlideError, match=r"Index\.dat "):
        open_slide(slide)


def test_a_slot_whose_list_is_damaged_is_not_shown_and_told(slide):
    head, _ = place_of_list(slide, PER_SLOT)
    patch_index(slide, head, 7)
    with open_slide(slide) as opened:
        assert [plane.name for plane in opened.planes] == ["ExtFocusLevel"]
        assert opened.not_shown[0].startswith("2 of 3 focus layers")


@settings(max_examples=30)
@given(data=st.data())
def test_numbers_in_the_ini_may_be_anything(sound, tmp_path_factory, data):
    path = copied(sound, tmp_path_factory.mktemp("ini"))
    ini = path.with_suffix("") / "Slidedat.ini"
    lines = ini.read_bytes().decode("utf-8-sig").split("\r\n")
    numbers = [i for i, line in enumerate(lines) if line[-1:].isdigit() and "=" in line]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(numbers))
        value = data.draw(NUMBERS.map(str) | st.text(max_size=4))
        lines[at] = f"{lines[at].partition('=')[0]}= {value}"
    ini.write_bytes("\r\n".join(lines).encode())
    read_all(path)


@settings(max_examples=60)
@given(data=st.data())
def test_numbers_in_the_index_may_be_anything(sound, tmp_path_factory, data):
    path = copied(sound, tmp_path_factory.mktemp("index"))
    size = (path.with_suffix("") / "Index.dat").stat().st_size
    places = [place for place in boundaries(path) if place + 8 < size]
    for _ in range(data.draw(st.integers(1, 4))):
        value = data.draw(NUMBERS.filter(lambda n: abs(n) < 2**31) | st.sampled_from(places))
        patch_index(path, data.draw(st.sampled_from(places)), value)
    read_all(path)


# --- tiles and tables


def replace_payload(slide: Path, entry: int, payload: bytes) -> None:
    """Let an entry of a page point to other bytes, appended to the first data file."""
    file = slide.with_suffix("") / "Data0000.dat"
    start = file.stat().st_size
    with file.open("ab") as stream:
        stream.write(payload)
    patch_index(slide, entry, start, len(payload), 0)


def bombs() -> dict[str, bytes]:
    """Tiles of 16 x 24 pixels whose headers claim 60000 x 60000."""
    tile = LAYERS[0][:16, :24]
    jpeg = bytearray(imagecodecs.jpeg8_encode(tile))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 60000, 60000)
    png = bytearray(imagecodecs.png_encode(tile))
    struct.pack_into(">II", png, 16, 60000, 60000)
    plain = bytearray(imagecodecs.jpeg2k_encode(tile, codecformat="j2k"))
    struct.pack_into(">II", plain, 8, 60000, 60000)
    boxed = bytearray(imagecodecs.jpeg2k_encode(tile, codecformat="jp2"))
    struct.pack_into(">II", boxed, boxed.index(b"\xff\x4f\xff\x51") + 8, 60000, 60000)
    wide = bytearray(imagecodecs.jpegxr_encode(tile))
    struct.pack_into(">HH", wide, wide.index(b"WMPHOTO\0") + 12, 59999, 59999)
    bitmap = bytearray(imagecodecs.bmp_encode(tile))
    struct.pack_into("<ii", bitmap, 18, 60000, 60000)
    found = {"jpeg": jpeg, "png": png, "j2k": plain, "jp2": boxed, "jxr": wide, "bmp": bitmap}
    return {name: bytes(data) for name, data in found.items()}


@pytest.mark.parametrize("name", ["jpeg", "png", "j2k", "jp2", "jxr", "bmp"])
def test_a_tile_that_claims_to_be_huge_is_refused_before_it_is_decoded(slide, name):
    _, page = place_of_list(slide)
    replace_payload(slide, page + 8 + 4, bombs()[name])
    with (
        open_slide(slide) as opened,
        pytest.raises(SlideError, match=r"tile says it is (\(60000, 60000\)|None), not \(16, 24\)"),
    ):
        opened.read_region(opened.extended, 0, 0, 0, 10, 10)


@pytest.mark.parametrize("payload", [b"\xff\xd8", b"\x89PNG\r\n", b"BM", b"II\xbc\x01", b"hello"])
def test_a_tile_that_is_no_picture_is_told(slide, payload):
    _, page = place_of_list(slide)
    replace_payload(slide, page + 8 + 16 + 4, payload)
    with (
        open_slide(slide) as opened,
        pytest.raises(SlideError, match=r"^s\.mrxs is damaged or incomplete \(.*tile"),
    ):
        opened.read_region(opened.extended, 0, 0, 0, 60, 60)


def test_a_tile_of_scans_without_end_is_refused(slide):
    _, page = place_of_list(slide)
    replace_payload(slide, page + 8 + 4, scan_bomb(24))
    with (
        open_slide(slide) as opened,
        pytest.raises(SlideError, match=r"a JPEG image of 20\d\d scans, which"),
    ):
        opened.read_region(opened.extended, 0, 0, 0, 10, 10)


def test_a_tile_of_another_depth_is_told(slide):
    _, page = place_of_list(slide)
    deep = imagecodecs.png_encode(np.zeros((16, 24, 3), np.uint16))
    replace_payload(slide, page + 8 + 4, deep)
    with open_slide(slide) as opened, pytest.raises(SlideError, match="holds uint16 values"):
        opened.read_region(opened.extended, 0, 0, 0, 10, 10)


@pytest.mark.parametrize("packed", [zlib.compress(bytes(100 << 20)), b"no stream", b""])
def test_a_table_of_positions_that_unfolds_to_anything_is_told(tmp_path, packed):
    layout = Layout(tile=(16, 24), positions="zlib", zooms=1)
    path = write_mrxs(tmp_path / "s.mrxs", SLOTS, layout)
    data = (tmp_path / "s" / "Index.dat").read_bytes()
    (table,) = struct.unpack_from("<i", data, 41)
    (head,) = struct.unpack_from("<i", data, table)
    replace_payload(path, head + 8 + 8 + 8, packed)
    tracemalloc.start()
    with pytest.raises(SlideError, match=r"^s\.mrxs is damaged or incomplete"):
        open_slide(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


# --- JPEG XR, whose library ends the process on some tiles


@pytest.fixture
def worker(monkeypatch) -> Iterator[apart.Worker]:
    """Return the other process, which these tests turn on."""
    monkeypatch.setenv(VARIABLE, "1")
    found = apart.Worker()
    monkeypatch.setattr(apart, "_worker", found)
    yield found
    found.close()


def test_jpeg_xr_is_decoded_in_another_process_that_is_started_again(tmp_path, worker):
    layout = Layout(codec="JPEGXR", zooms=1, tile=(16, 24))
    path = write_mrxs(tmp_path / "s.mrxs", focus_slots(LAYERS), layout)
    with open_slide(path, probe=False) as opened:
        assert (opened.read_region(opened.planes[1], 0, 0, 0, 48, 72) == LAYERS[1][:48, :72]).all()
        assert worker._process is not None
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(SlideError, match="a JPEG XR tile ended the process that decodes it"):
            opened.read_region(opened.planes[0], 0, 0, 0, 48, 72)
        assert (opened.read_region(opened.planes[0], 0, 0, 0, 48, 72) == LAYERS[0][:48, :72]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_takes_the_decoder_too_long_is_ended(worker, monkeypatch):
    tile = imagecodecs.jpegxr_encode(LAYERS[0][:16, :24])
    assert (worker.decode(tile) == LAYERS[0][:16, :24]).all()
    monkeypatch.setattr(apart, "TIME_LIMIT_S", 0.1)
    os.kill(worker._process.pid, signal.SIGSTOP)
    with pytest.raises(ValueError, match="ended the process"):
        worker.decode(tile)


def test_faults_of_the_decoder_are_told_and_it_goes_on(worker):
    tile = imagecodecs.jpegxr_encode(LAYERS[0][:16, :24])
    for bad in (b"", b"II\xbc\x01" + bytes(40)):
        with pytest.raises(ValueError, match=r"\w"):
            worker.decode(bad)
        assert (worker.decode(tile) == LAYERS[0][:16, :24]).all()
