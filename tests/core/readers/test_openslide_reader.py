from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from napari_focusfuse.readers import open_slide
from napari_focusfuse.readers.openslide import open_openslide
from napari_focusfuse.slide import PlaneError, Region, SlideError
from slide_files import Stack, write_aperio, write_mirax


def test_a_scanner_file_of_one_plane(scanner_file, open_files):
    with open_slide(scanner_file) as slide:
        assert slide.format == "openslide"
        assert [(plane.index, plane.z_um) for plane in slide.planes] == [(0, None)]
        assert (slide.zero, slide.extended, slide.not_shown) == (0, None, [])
        assert slide.mpp == pytest.approx((0.499, 0.499))
        assert slide.objective == 20
        assert [level.shape for level in slide.levels] == [(2967, 2220)]
        assert slide.bounds == Region(0, 0, 2967, 2220)
        assert slide.background == (255, 255, 255)
        assert slide.properties["openslide.vendor"] == "aperio"
        with openslide.OpenSlide(scanner_file) as oracle:
            expected = np.asarray(oracle.read_region((700, 1300), 0, (300, 200)))[..., :3]
            assert (slide.read_region(slide.planes[0], 0, 1300, 700, 200, 300) == expected).all()
            assert sorted(slide.associated) == ["label", "macro", "thumbnail"]
            for name, image in slide.associated.items():
                wanted = np.asarray(oracle.associated_images[name])[..., :3]
                assert (image == wanted).all()
    assert open_files(scanner_file.parent) == []


def test_every_level_is_read_in_its_own_pixels(tmp_path, stack):
    path = write_aperio(tmp_path / "one.svs", stack[:1], [0.0], levels=3)
    with open_slide(path) as slide, openslide.OpenSlide(path) as oracle:
        assert slide.format == "openslide"
        assert [level.downsample for level in slide.levels] == [(1, 1), (2, 2), (4, 4)]
        for level, (width, height) in enumerate(oracle.level_dimensions):
            whole = np.asarray(oracle.read_region((0, 0), level, (width, height)))[..., :3]
            part = slide.read_region(slide.planes[0], level, 11, 7, 30, 40)
            assert (part == whole[11:41, 7:47]).all()


def test_there_is_only_plane_0(scanner_file, open_files):
    with pytest.raises(PlaneError, match="must be 0 to 0, not 1"):
        open_slide(scanner_file, zero=1)
    assert open_files(scanner_file.parent) == []


def test_a_closed_slide_says_so(scanner_file):
    slide = open_slide(scanner_file)
    slide.close()
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read_region(slide.planes[0], 0, 0, 0, 5, 5)


def test_an_error_kills_one_handle_and_not_the_slide(tmp_path, scanner_file, open_files):
    path = tmp_path / "slide.svs"
    shutil.copy(scanner_file, path)
    with tifffile.TiffFile(path) as file:
        place, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data, written = path.read_bytes(), path.stat().st_mtime_ns
    with open_slide(path) as slide:
        slide.read_region(slide.planes[0], 0, 2000, 2000, 10, 10)
        with path.open("r+b") as file:  # the drive drops out ...
            file.seek(place)
            file.write(bytes(length))
        os.utime(path, ns=(written, written))
        with pytest.raises(SlideError, match=r"slide\.svs is damaged or incomplete"):
            slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)
        # ... which that tile alone has to pay for,
        slide.read_region(slide.planes[0], 0, 1000, 1000, 10, 10)
        with path.open("r+b") as file:  # and comes back
            file.seek(place)
            file.write(data[place : place + length])
        os.utime(path, ns=(written, written))
        assert slide.read_region(slide.planes[0], 0, 0, 0, 10, 10).shape == (10, 10, 3)
    assert open_files(tmp_path) == []


def test_threads_read_at_once(scanner_file):
    wrong: list[tuple[int, int]] = []
    with open_slide(scanner_file) as slide:
        whole = slide.read_region(slide.planes[0], 0, 0, 0, 600, 600)

        def work(seed: int) -> None:
            for y, x in np.random.default_rng(seed).integers(0, 500, (20, 2)).tolist():
                read = slide.read_region(slide.planes[0], 0, y, x, 100, 100)
                if (read != whole[y : y + 100, x : x + 100]).any():
                    wrong.append((y, x))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def patch(path: Path, code: int, value: int) -> None:
    """Write ``value`` over the first value of a tag of the first page, or over its count."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[code]
        place, size = tag.valueoffset, {3: 2, 4: 4}[int(tag.dtype)]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(value.to_bytes(size, "little"))


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        (325, 0xFFFFFFFF, "image data lies beyond the end of the file"),
        (324, 0xFFFFFFF0, "image data lies beyond the end of the file"),
        (322, 65520, "claims a tile side of 65520 pixels"),
        (323, 0, "claims a tile side of 0 pixels"),
        (256, 65535, "claims a|damaged|lacks"),
    ],
)
@pytest.mark.parametrize("door", [open_slide, open_openslide], ids=["any", "openslide"])
def test_sizes_that_would_end_the_process_are_refused_before(
    door: Callable[[Path], object], code, value, message, tmp_path, stack: Stack
):
    path = write_aperio(tmp_path / "bad.svs", stack[:1], [0.0])
    patch(path, code, value)
    if code == 256:  # plausible by itself: tiles are missing, which reading shows
        with door(path) as slide:
            assert slide.levels[0].width == value
        return
    with pytest.raises(SlideError, match=rf"^bad\.svs is damaged.*{message}"):
        door(path)


def test_focus_layers_of_mirax_that_are_not_shown_are_told(tmp_path, stack, open_files):
    layers = ["ExtFocusLevel", "ZStackLevel_(-1)", "ZStackLevel_(0)", "ZStackLevel_(1)"]
    path = write_mirax(tmp_path / "s.mrxs", stack[0], layers)
    with open_openslide(path) as slide:
        assert slide.format == "openslide"
        assert len(slide.planes) == 1
        assert slide.not_shown == ["3 of 4 focus layers; ExtFocusLevel is shown"]
        assert (slide.mpp, slide.objective) == ((0.25, 0.25), 40)
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 256, 320) == stack[0]).all()
    assert open_files(tmp_path) == []


def test_a_mirax_slide_of_one_layer_hides_nothing(tmp_path, stack):
    path = write_mirax(tmp_path / "s.mrxs", stack[0], ["ZStackLevel_(0)"])
    with open_openslide(path) as slide:
        assert slide.not_shown == []
