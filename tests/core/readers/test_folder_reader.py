from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from napari_focusfuse.readers import decoded, open_slide
from napari_focusfuse.readers import folder as folder_reader
from napari_focusfuse.readers.folder import holds_planes
from napari_focusfuse.slide import SlideError, UnsupportedSlideError
from slide_files import make_stack, write_folder, write_ome


@pytest.mark.parametrize(
    ("pattern", "error"),
    [("plane_{}.png", 0), ("{}.tif", 0), ("z{}.BMP", 0), ("s {}.jpg", 2.5), ("s{}.webp", 6)],
)
def test_planes_are_read_in_the_order_of_their_numbers(tmp_path, pattern, error):
    brightness = 4 * np.arange(11, dtype=np.uint8)[:, None, None, None]
    stack = make_stack(11, 60, 80) // 2 + brightness  # eleven different planes
    with open_slide(write_folder(tmp_path / "z", stack, pattern)) as slide:
        assert slide.format == "folder"
        assert (len(slide.planes), slide.zero, slide.mpp) == (11, 5, None)
        assert [plane.z_um for plane in slide.planes] == [None] * 11
        assert [plane.name for plane in slide.planes] == [
            pattern.format(n).rpartition(".")[0] for n in range(1, 12)
        ]
        read = slide.read_stack(slide.planes, 0, 5, 7, 40, 50)
        assert np.abs(read.astype(int) - stack[:, 5:45, 7:57]).mean((1, 2, 3)).max() <= error


def test_negative_numbers_come_first(tmp_path):
    stack = make_stack(3, 20, 20)
    folder = tmp_path / "z"
    write_folder(folder, stack[:1], "f_{}.png", first=-2)
    write_folder(folder, stack[1:2], "f_{}.png", first=-1)
    write_folder(folder, stack[2:], "f_{}.png", first=3)
    with open_slide(folder) as slide:
        assert [plane.name for plane in slide.planes] == ["f_-2", "f_-1", "f_3"]


def test_what_is_no_image_is_passed_over(tmp_path, stack):
    folder = write_folder(tmp_path / "z", stack)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image")
    (folder / "sub.png").mkdir()
    with open_slide(folder) as slide:
        assert len(slide.planes) == 3


def test_each_plane_is_decoded_once_and_only_when_read(tmp_path, stack, monkeypatch):
    folder = write_folder(tmp_path / "z", stack)
    names: list[str] = []
    decode = folder_reader._decode

    def noting(header):
        names.append(header.path.name)
        return decode(header)

    monkeypatch.setattr(folder_reader, "_decode", noting)
    with open_slide(folder) as slide:
        assert names == []
        for _ in range(3):
            slide.read_region(slide.planes[1], 0, 0, 0, 32, 32)
        assert names == ["plane_2.png"]


def test_memory_of_decoded_planes_is_bounded(tmp_path, monkeypatch):
    stack = make_stack(4, 64, 64)
    monkeypatch.setattr(decoded, "MEMORY_BUDGET", 2 * stack[0].nbytes)
    with open_slide(write_folder(tmp_path / "z", stack)) as slide:
        for plane in (*slide.planes, slide.planes[0]):
            read = slide.read_region(plane, 0, 0, 0, 64, 64)
            assert (read == stack[plane.index]).all()
            assert slide._decoded.nbytes <= 2 * stack[0].nbytes


def test_scale_is_taken_where_all_files_carry_a_plausible_one(tmp_path, stack):
    for name, dpi in {"micro": 101_600, "screen": 72}.items():
        folder = tmp_path / name
        folder.mkdir()
        for z in range(2):
            Image.fromarray(stack[z]).save(folder / f"{z}.png", dpi=(dpi, dpi))
        with open_slide(folder) as slide:
            assert slide.mpp == (pytest.approx((0.25, 0.25), rel=1e-3) if dpi > 72 else None)


def test_different_scales_are_not_used(tmp_path, stack):
    for z, dpi in enumerate((101_600, 50_800)):
        Image.fromarray(stack[z]).save(tmp_path / f"{z}.png", dpi=(dpi, dpi))
    with open_slide(tmp_path) as slide:
        assert slide.mpp is None
        assert len(slide.warnings) == 1


def test_palettes_and_transparency_become_rgb(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(rgba[..., :3]).quantize(4).save(tmp_path / "b.png")
    with open_slide(tmp_path) as slide:
        first, second = slide.read_stack(slide.planes, 0, 0, 0, 8, 8)
        assert (first[:4] == (10, 20, 30)).all()
        assert (first[4:] == 255).all()
        assert (second[:4] == (10, 20, 30)).all()
        assert (second[4:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "I;16", "CMYK", "1", "16-bit RGB"])
def test_grey_and_deep_images_are_refused_in_one_sentence(tmp_path, mode):
    for name in "ab":
        path = tmp_path / f"{name}.{'jpg' if mode == 'CMYK' else 'png'}"
        if mode == "16-bit RGB":
            imagecodecs = pytest.importorskip("imagecodecs")
            path.write_bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint16)))
        else:
            Image.new(mode, (8, 8)).save(path)
    with pytest.raises(UnsupportedSlideError, match=r"^a\.\w+ holds .*convert it to 8-bit RGB\.$"):
        open_slide(tmp_path)


def test_a_folder_needs_two_images(tmp_path, stack):
    with pytest.raises(SlideError, match=r"holds no image; a slide needs at least two"):
        open_slide(tmp_path)
    write_folder(tmp_path, stack[:1])
    with pytest.raises(SlideError, match=r"holds only one image, plane_1\.png; a slide needs"):
        open_slide(tmp_path)


def test_planes_of_different_size_are_refused(tmp_path, stack):
    write_folder(tmp_path, stack)
    Image.fromarray(stack[0, :100, :90]).save(tmp_path / "plane_4.png")
    message = r"differ in size: plane_1\.png has 320 x 256 pixels, plane_4\.png 90 x 100; keep only"
    with pytest.raises(SlideError, match=message):
        open_slide(tmp_path)


def test_a_stack_among_the_images_is_told(tmp_path, stack):
    write_folder(tmp_path, stack, "{}.tif")
    write_ome(tmp_path / "4.tif", stack, levels=1)
    with pytest.raises(SlideError, match=r"4\.tif holds 3 focus layers by itself; open that file"):
        open_slide(tmp_path)


def test_a_damaged_plane_is_told_when_it_is_read(tmp_path, stack):
    folder = write_folder(tmp_path / "z", stack)
    path = folder / "plane_2.png"
    path.write_bytes(path.read_bytes()[:4000])
    with open_slide(folder) as slide:
        slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)
        with pytest.raises(SlideError, match=r"plane_2\.png is damaged or incomplete"):
            slide.read_region(slide.planes[1], 0, 0, 0, 10, 10)


def test_a_plane_that_vanishes_or_changes_is_told(tmp_path, stack):
    folder = write_folder(tmp_path / "z", stack)
    with open_slide(folder) as slide:
        (folder / "plane_1.png").unlink()
        Image.fromarray(stack[0, :50]).save(folder / "plane_2.png")
        with pytest.raises(SlideError, match=r"plane_1\.png"):
            slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)
        with pytest.raises(SlideError, match=r"changed while it was open"):
            slide.read_region(slide.planes[1], 0, 0, 0, 10, 10)


def test_a_quick_look_tells_folders_of_planes(tmp_path, stack):
    assert not holds_planes(tmp_path)
    (tmp_path / "a.png").write_text("not an image")
    (tmp_path / "b.png").write_text("not an image")
    assert not holds_planes(tmp_path)
    assert holds_planes(write_folder(tmp_path / "z", stack))
    assert not holds_planes(write_folder(tmp_path / "one", stack[:1]))
    assert not holds_planes(tmp_path / "missing")
    assert holds_planes(write_folder(tmp_path / "tiffs", stack, "{}.tif"))
    (tmp_path / "tiffs" / "1.tif").write_bytes(b"II*\0")
    assert not holds_planes(tmp_path / "tiffs")


def test_a_quick_look_loads_no_library_for_tiffs(tmp_path, stack):
    write_folder(tmp_path, stack, "{}.tif")
    code = (
        "import sys, pathlib; from napari_focusfuse.readers.folder import holds_planes; "
        f"assert holds_planes(pathlib.Path({str(tmp_path)!r})); "
        "print(sorted({'tifffile', 'zarr', 'openslide', 'torch'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_picture_too_large_to_decode_is_refused(tmp_path):
    size = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))
    data = (
        struct.pack(">I", 4)
        + b"IDAT"
        + bytes(4)
        + struct.pack(">I", zlib.crc32(b"IDAT" + bytes(4)))
    )
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data)
    with pytest.raises(SlideError, match=r"a\.png is too large to be decoded whole; store it as"):
        open_slide(tmp_path)


def test_tiled_planes_keep_their_scale(tmp_path, stack):
    for z, plane in enumerate(stack):
        options = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        write_ome(tmp_path / f"{z}.ome.tif", plane, axes="YXS", **options)
    with open_slide(tmp_path) as slide:
        assert slide.mpp == (0.25, 0.25)
        assert (slide.read_stack(slide.planes, 0, 5, 6, 40, 50) == stack[:, 5:45, 6:56]).all()


@pytest.mark.parametrize("name", ["²", "١٠", "x" * 200, "-", "7" * 200])
def test_any_name_sorts(tmp_path, stack, name):
    write_folder(tmp_path, stack[:1], name + ".png")
    write_folder(tmp_path, stack[1:])
    with open_slide(tmp_path) as slide:
        assert len(slide.planes) == 3
