from __future__ import annotations

import struct
import sys

import imagecodecs
import numpy as np
import pytest

from czi_files import directory_entries, write_czi
from napari_focusfuse.readers import open_slide, probe
from napari_focusfuse.slide import PlaneError, SlideError, UnsupportedSlideError
from reading import read_everything
from slide_files import make_stack, pyramid

czi = pytest.importorskip("pylibCZIrw.czi")


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd1:ExplicitLevel=2"])
def test_a_stack_reads_as_it_was_written(compression, tmp_path, stack, open_files):
    path = write_czi(tmp_path / "s.czi", stack, compression=compression)
    with open_slide(path) as slide:
        assert (slide.format, slide.zero, slide.extended) == ("czi", 1, None)
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert [plane.z_um for plane in slide.planes] == pytest.approx([0, 2.7, 5.4])
        assert (slide.not_shown, slide.warnings) == ([], [])
        assert len(slide.levels) == 2
        for level, image in enumerate(pyramid(stack, 2)):
            assert slide.levels[level].shape == image.shape[1:3]
            assert (slide.read_stack(slide.planes, level, 0, 0, *image.shape[1:3]) == image).all()
            part = slide.read_region(slide.planes[2], level, 13, 7, 100, 91)
            assert (part == image[2, 13:113, 7:98]).all()
    assert open_files(tmp_path) == []


def test_jpeg_xr_tiles(tmp_path):
    """The codec of real files, which the library reads but does not write."""
    stack = make_stack(1, 64, 64)
    path = write_czi(tmp_path / "s.czi", stack, levels=1)
    raw = stack[0, ..., ::-1].tobytes()
    red_first = bytes.fromhex("24c3dd6f034efe4bb1853d77768dc90d")  # GUID of the pixel format
    encoded = imagecodecs.jpegxr_encode(stack[0], level=0.95)
    encoded = encoded.replace(red_first, red_first[:-1] + b"\x0c")
    data = bytearray(path.read_bytes().replace(raw, encoded + bytes(len(raw) - len(encoded))))
    for entry, _ in directory_entries(data):
        struct.pack_into("<i", data, entry + 18, 4)
    path.write_bytes(data)
    with open_slide(path) as slide:
        read = slide.read_stack(slide.planes, 0, 0, 0, 64, 64)
        assert 0 < np.abs(read.astype(int) - stack).mean() < 1


def test_red_is_red(tmp_path):
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 255
    path = write_czi(tmp_path / "s.czi", red, levels=1)
    assert bytes([0, 0, 255]) * 256 in path.read_bytes()  # Bgr24: blue, green, red
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 16, 16) == [255, 0, 0]).all()


def test_scenes_lie_where_they_were_scanned(tmp_path, stack):
    path = tmp_path / "s.czi"
    with czi.create_czi(str(path)) as file:
        for scene, place in enumerate([(0, 0), (500, 40)]):
            for z in range(3):
                data = np.ascontiguousarray(stack[z, :100, :100, ::-1])
                file.write(data, location=place, plane={"Z": z, "C": 0, "T": 0}, scene=scene)
    with open_slide(path) as slide:
        assert slide.levels[0].shape == (140, 600)
        assert (slide.mpp, [plane.z_um for plane in slide.planes]) == (None, [None] * 3)
        read = slide.read_region(slide.planes[1], 0, 0, 0, 140, 600)
        assert (read[:100, :100] == stack[1, :100, :100]).all()
        assert (read[40:, 500:] == stack[1, :100, :100]).all()
        assert (read[:, 100:500] == 255).all()


def test_time_points_are_told_and_planes_need_not_start_at_0(tmp_path, stack):
    path = write_czi(tmp_path / "s.czi", stack, levels=1, times=2, first_plane=4)
    with open_slide(path) as slide:
        assert slide.not_shown == ["1 of 2 time points"]
        assert (slide.read_stack(slide.planes, 0, 0, 0, 256, 320) == stack).all()


def test_what_is_not_8_bit_rgb_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "s.czi"
    with czi.create_czi(str(path)) as file:
        file.write(np.zeros((32, 32, 1), np.uint16), plane={"Z": 0, "C": 0, "T": 0})
    with pytest.raises(UnsupportedSlideError, match=r"^s\.czi holds Gray16 values"):
        open_slide(path)


def test_without_libczi_it_says_what_to_install(tmp_path, stack, monkeypatch):
    path = write_czi(tmp_path / "s.czi", stack)
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    with pytest.raises(UnsupportedSlideError, match=r"pip install 'napari-focusfuse\[czi\]'\.$"):
        open_slide(path)


def test_a_closed_slide_says_so(tmp_path, stack, open_files):
    path = write_czi(tmp_path / "s.czi", stack, levels=1)
    with pytest.raises(PlaneError, match="must be 0 to 2, not 5"):
        open_slide(path, zero=5)
    slide = open_slide(path, zero=0)
    assert slide.zero == 0
    slide.close()
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read_region(slide.planes[0], 0, 0, 0, 5, 5)
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("side", [2**31 - 1, 10**6, -1, 0])
def test_claimed_sizes_are_refused(side, tmp_path):
    path = write_czi(tmp_path / "s.czi", make_stack(3, 64, 64), levels=1)
    data = bytearray(path.read_bytes())
    for _, dimensions in directory_entries(data):
        struct.pack_into("<ii", data, dimensions["X"] + 4, 0, side)
        struct.pack_into("<i", data, dimensions["X"] + 16, side)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"^s\.czi (is damaged|says it is|is not opened)"):
        open_slide(path, probe=True).close()


def test_what_is_cut_or_flipped_is_told_or_readable(tmp_path, open_files):
    """In a child as well: what is damaged may end it, but not us."""
    path = write_czi(tmp_path / "s.czi", make_stack(2, 32, 32), levels=1)
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    for trial in range(24):
        broken = bytearray(sound)
        for place in rng.integers(0, len(sound), 4):
            broken[place] = rng.choice([0, 1, 0x7F, 0xFF])
        path.write_bytes(broken if trial % 2 else sound[: len(sound) * trial // 24])
        with probe.probing(True):
            read_everything(path)
    assert open_files(tmp_path) == []
