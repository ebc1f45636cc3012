from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_files import write_dicom
from drawn_slide import drawn
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.napari_reader import get_reader
from napari_focusfuse.slide import Region, SlideError
from slide_files import make_stack


def save(path: Path, plane: int, height: int = 40) -> None:
    Image.fromarray(drawn(plane, 0, Region(0, 0, height, 50))).save(path)


def test_a_folder_is_a_slide_if_two_images_match(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "notes.txt").write_text("no image")
    save(tmp_path / "plane_1.png", 0)
    assert get_reader(str(tmp_path)) is None
    save(tmp_path / "plane_2.png", 1)
    read = get_reader(str(tmp_path))
    assert read is not None
    ((levels, keywords, kind),) = read(str(tmp_path))
    assert (levels[0].shape, kind) == ((2, 40, 50, 3), "image")
    assert np.array_equal(np.asarray(levels[0][1]), drawn(1, 0, Region(0, 0, 40, 50)))
    assert keywords["metadata"][KEY]["planes"] == ("plane_1", "plane_2")


def test_images_of_different_size_are_no_slide(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 0)
    save(tmp_path / "b.png", 1, height=41)
    assert get_reader(str(tmp_path)) is None


def test_a_folder_of_dicom_files_is_a_slide(tmp_path: Path) -> None:
    stack = make_stack(3, 64, 64)
    folder = write_dicom(tmp_path / "slide", stack, levels=1)
    read = get_reader(str(folder))
    assert read is not None
    ((levels, keywords, _),) = read(str(folder))
    assert np.array_equal(np.asarray(levels[0][2]), stack[2])
    assert keywords["scale"] == pytest.approx((2.7, 0.5, 0.25))


def test_a_stack_of_paths_gives_a_layer_each(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "1.png", 0)
        save(tmp_path / name / "2.png", 1)
    paths = [str(tmp_path / "first"), str(tmp_path / "second")]
    read = get_reader(paths)
    assert read is not None
    assert [keywords["name"] for _, keywords, _ in read(paths)] == ["first", "second"]


def test_the_hook_reads_no_file_and_a_bad_one_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = str(tmp_path / "missing.ome.tif")
    read = get_reader(path)
    assert read is not None
    with pytest.raises(SlideError, match="does not exist"):
        read(path)
