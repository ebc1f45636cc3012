from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pydicom
import pytest
from pydicom.encaps import encapsulate

from dicom_files import PATIENT, PROFILE, write_dicom
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import PlaneError, SlideError, UnsupportedSlideError
from reading import read_everything
from slide_files import Stack, halved, make_stack, pyramid, write_pages

CENTRED = (-2.7, 0.0, 2.7)
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "full, origin": {"heights_um": CENTRED, "origin_um": -2.7},
    "full, parts": {"split": "parts", "heights_um": CENTRED, "origin_um": -2.7},
    "sparse": {"tiling": "sparse", "heights_um": CENTRED},
    "sparse, unequal steps": {"tiling": "sparse", "heights_um": (-1.0, 0.0, 5.0)},
    "sparse, parts": {"tiling": "sparse", "split": "parts", "heights_um": CENTRED},
    "a file per plane": {"split": "planes", "heights_um": CENTRED},
    "a sparse file per plane": {"split": "planes", "tiling": "sparse", "heights_um": CENTRED},
    "a file per plane that names all": {
        "split": "planes",
        "heights_um": CENTRED,
        "TotalPixelMatrixFocalPlanes": 3,
    },
    "jpeg 2000": {"codec": "jpeg 2000"},
    "jpeg-ls": {"codec": "jpeg-ls"},
    "run lengths": {"codec": "run lengths"},
    "tiles of another size": {"tile": 50},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("door", ["folder", "file"])
def test_a_stack_reads_as_it_was_written(options, door, tmp_path, stack, open_files):
    path = write_dicom(tmp_path / "slide", stack, **options)
    if door == "file":
        path = sorted(path.iterdir())[-1]  # any file opens the whole slide
    with open_slide(path) as slide:
        assert (slide.format, slide.zero, slide.extended) == ("dicom", 1, None)
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert slide.objective == 40
        assert slide.icc_profile == PROFILE
        expected = options.get("heights_um", (0.0, 2.7, 5.4))
        assert [plane.z_um for plane in slide.planes] == pytest.approx(expected)
        assert (slide.not_shown, slide.warnings, dict(slide.associated)) == ([], [], {})
        assert PATIENT not in str(vars(slide))
        for level, image in enumerate(pyramid(stack, 2)):
            assert slide.levels[level].shape == image.shape[1:3]
            assert slide.levels[level].downsample == (2**level, 2**level)
            assert (slide.read_stack(slide.planes, level, 0, 0, *image.shape[1:3]) == image).all()
            part = slide.read_region(slide.planes[2], level, 13, 7, 100, 91)
            assert (part == image[2, 13:113, 7:98]).all()
    assert open_files(tmp_path) == []


def test_a_slide_of_one_plane_has_no_height(tmp_path, stack):
    with open_slide(write_dicom(tmp_path / "s", stack[:1], heights_um=[0.0])) as slide:
        assert [(plane.index, plane.z_um) for plane in slide.planes] == [(0, None)]
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 256, 320) == stack[0]).all()


def test_jpeg_tiles(tmp_path, stack):
    with open_slide(write_dicom(tmp_path / "s", stack, codec="jpeg")) as slide:
        read = slide.read_stack(slide.planes, 0, 0, 0, 256, 320)
        assert np.abs(read.astype(int) - stack).mean((1, 2, 3)).max() < 2


@pytest.mark.parametrize("codec", ["raw", "jpeg", "jpeg 2000"])
@pytest.mark.parametrize("tiling", ["full", "sparse"])
def test_planes_are_what_openslide_sees_of_slides_of_one_plane(codec, tiling, tmp_path, stack):
    """OpenSlide refuses stacks, so that each plane of one is written as a slide of its own."""
    folder = write_dicom(tmp_path / "stack", stack, codec=codec, tiling=tiling)
    with open_slide(folder) as slide:
        for plane in slide.planes:
            alone = write_dicom(
                tmp_path / str(plane.index), stack[plane.index][None], codec=codec, tiling=tiling,
                heights_um=[0.0],
            )  # fmt: skip
            with openslide.OpenSlide(min(alone.iterdir())) as oracle:
                assert oracle.properties["openslide.vendor"] == "dicom"
                for level, (width, height) in enumerate(oracle.level_dimensions):
                    wanted = np.asarray(oracle.read_region((0, 0), level, (width, height)))
                    read = slide.read_region(plane, level, 0, 0, height, width)
                    difference = np.abs(read.astype(int) - wanted[..., :3])
                    assert difference.max() <= (1 if codec == "jpeg" else 0)


def test_an_extended_focus_is_a_plane_beside_the_stack(tmp_path, stack, open_files):
    fused, label = stack.max(axis=0), make_stack(1, 40, 40)[0]
    folder = write_dicom(tmp_path / "s", stack, fused=fused, label=label)
    with open_slide(folder) as slide:
        assert len(slide.planes) == 3
        assert slide.not_shown == []
        assert slide.extended is not None
        assert (slide.read_region(slide.extended, 0, 0, 0, 256, 320) == fused).all()
        assert (slide.read_region(slide.extended, 1, 0, 0, 128, 160) == halved(fused)).all()
        assert (slide.read_stack(slide.planes, 0, 0, 0, 256, 320) == stack).all()
        assert list(slide.associated) == ["label"]
        assert (slide.associated["label"] == label).all()
    assert open_files(tmp_path) == []


def test_an_extended_focus_of_another_size_is_told(tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack, fused=stack.max(axis=0), levels=1)
    dataset = pydicom.dcmread(folder / "fused0.dcm")
    dataset.TotalPixelMatrixRows -= 10
    dataset.save_as(folder / "fused0.dcm")
    with open_slide(folder) as slide:
        assert slide.extended is None
        assert slide.not_shown == ["an extended focus of another size"]


def test_a_tile_that_is_not_stored_is_background(tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack, tiling="sparse", levels=1, missing=[1])
    with open_slide(folder) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 64, 64, 64) == 255).all()
        assert (slide.read_region(slide.planes[1], 0, 0, 64, 64, 64) == stack[1, :64, 64:128]).all()


def test_a_level_with_fewer_planes_is_left_out_and_told(tmp_path, stack):
    write_dicom(tmp_path / "s", stack, levels=1, tiling="sparse", series="1.2.3")
    other = write_dicom(
        tmp_path / "other", halved(stack)[1:2], levels=1, tiling="sparse", series="1.2.3",
        heights_um=[2.7],
    )  # fmt: skip
    shutil.copy(next(other.iterdir()), tmp_path / "s" / "small.dcm")
    dataset = pydicom.dcmread(tmp_path / "s" / "0_0_0.dcm")
    small = pydicom.dcmread(tmp_path / "s" / "small.dcm")
    small.StudyInstanceUID = dataset.StudyInstanceUID
    small.FrameOfReferenceUID = dataset.FrameOfReferenceUID
    small.save_as(tmp_path / "s" / "small.dcm")
    with open_slide(tmp_path / "s") as slide:
        assert [level.shape for level in slide.levels] == [(256, 320)]
        assert slide.not_shown == ["a level of 160 x 128 pixels with other focus layers"]


def test_of_two_slides_in_a_folder_the_larger_is_shown_and_the_other_told(tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack, name="a")
    write_dicom(folder, stack[:, :100], name="b")
    with open_slide(folder) as slide:
        assert slide.levels[0].shape == (256, 320)
        assert slide.not_shown == ["1 further slide in the same folder"]
    with open_slide(folder / "b0_0_0.dcm") as slide:
        assert slide.levels[0].shape == (100, 320)
        assert slide.not_shown == []


def test_threads_read_at_once(tmp_path, stack):
    faults: list[str] = []
    with open_slide(write_dicom(tmp_path / "s", stack, codec="jpeg 2000", levels=1)) as slide:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(10):
                z, y, x = rng.integers(0, 3), rng.integers(0, 200), rng.integers(0, 250)
                read = slide.read_region(slide.planes[z], 0, int(y), int(x), 50, 60)
                if (read != stack[z, y : y + 50, x : x + 60]).any():
                    faults.append(f"{z} {y} {x}")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


def test_layer_zero_can_be_chosen_and_a_closed_slide_says_so(tmp_path, stack, open_files):
    folder = write_dicom(tmp_path / "s", stack)
    with open_slide(folder, zero=0) as slide:
        assert slide.zero == 0
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read_region(slide.planes[0], 0, 0, 0, 5, 5)
    with pytest.raises(PlaneError, match="must be 0 to 2, not 7"):
        open_slide(folder, zero=7)
    assert open_files(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"TotalPixelMatrixColumns": 2**32 - 1}, "claims an image side of 4294967295 pixels"),
        ({"TotalPixelMatrixRows": 0}, "claims an image side of 0 pixels"),
        ({"Rows": 0}, "claims a tile side of 0 pixels"),
        ({"Columns": 65535}, "claims a tile side of 65535 pixels"),
        ({"Rows": 1, "Columns": 1, "TotalPixelMatrixRows": 9999,
          "TotalPixelMatrixColumns": 9999}, "claims 3 focus layers of 99980001 tiles"),
        ({"NumberOfFrames": 2**31 - 1}, "claims 2147483647 tiles"),
        ({"NumberOfFrames": -5}, "claims -5 tiles"),
        ({"TotalPixelMatrixFocalPlanes": 2**32 - 1}, "claims 4294967295 focus layers"),
        ({"NumberOfOpticalPaths": 2**31}, "claims 3 focus layers of"),
    ],
)  # fmt: skip
def test_claimed_sizes_are_refused_before_memory_is_taken(changes, message, tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack[:, :128, :128], levels=1, **changes)
    for path in (folder, next(folder.iterdir())):
        with pytest.raises(SlideError, match=message):
            open_slide(path)


def test_heights_by_the_million_are_refused(tmp_path, stack):
    heights = np.arange(1200) / 10
    tiny = np.zeros((1200, 8, 8, 3), np.uint8)
    folder = write_dicom(
        tmp_path / "s", tiny, levels=1, tile=8, tiling="sparse", heights_um=heights,
        TotalPixelMatrixFocalPlanes=1,
    )  # fmt: skip
    with pytest.raises(SlideError, match="claims 1200 focus layers"):
        open_slide(folder)


@pytest.mark.parametrize("codec", ["jpeg", "jpeg 2000", "jpeg-ls"])
def test_a_tile_that_claims_to_be_huge_is_refused_before_it_is_decoded(codec, tmp_path):
    from dicom_files import ENCODERS

    small = np.zeros((1, 64, 64, 3), np.uint8)
    folder = write_dicom(tmp_path / "s", small, levels=1, codec=codec, heights_um=[0.0])
    bomb = ENCODERS[codec][2](np.zeros((4096, 4096, 3), np.uint8))
    path = next(folder.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([bomb])
    dataset.save_as(path)
    with open_slide(folder) as slide, pytest.raises(SlideError, match=r"a tile says it is \(4096"):
        slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}, "holds a grey image"),
        ({"BitsStored": 12}, "holds 12-bit values"),
    ],
)
def test_what_is_not_8_bit_rgb_is_refused_in_one_sentence(changes, message, tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack, levels=1, **changes)
    with pytest.raises(UnsupportedSlideError, match=rf"{message}.*convert it to 8-bit RGB\.$"):
        open_slide(folder)


def test_other_dicom_files_are_no_slide(tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack, levels=1)
    path = next(folder.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.save_as(path)
    for door in (path, folder):
        with pytest.raises(UnsupportedSlideError, match=r"no .*whole-slide image"):
            open_slide(door)


def test_a_deflated_file_is_refused_before_it_grows(tmp_path, stack):
    path = next(write_dicom(tmp_path / "s", stack, levels=1).iterdir())
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(path)
    assert path.stat().st_size < 400_000 < stack.nbytes
    with pytest.raises(UnsupportedSlideError, match="pixels stored by transfer syntax"):
        open_slide(path)


def test_a_folder_of_images_beside_a_dicom_file_is_a_dicom_slide(tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack)
    write_pages(folder / "extra.tif", stack)
    with open_slide(folder) as slide:
        assert slide.format == "dicom"


@pytest.mark.parametrize("tiling", ["full", "sparse"])
def test_a_truncated_file_is_told_or_readable(tiling, tmp_path, open_files):
    small = make_stack(3, 64, 64)
    folder = write_dicom(tmp_path / "s", small, levels=1, tile=32, tiling=tiling, codec="jpeg 2000")
    path = next(folder.iterdir())
    data = path.read_bytes()
    for part in range(1, 32):
        path.write_bytes(data[: len(data) * part // 32])
        read_everything(path)
        assert open_files(tmp_path) == []


def test_flipped_bytes_are_told_or_readable(tmp_path, open_files):
    small = make_stack(3, 64, 64)
    folder = write_dicom(tmp_path / "s", small, levels=1, tile=32, tiling="sparse", codec="jpeg-ls")
    path = next(folder.iterdir())
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(sound)
        for place in rng.integers(132, len(sound), 3):
            broken[place] = rng.choice([0, 1, 0x7F, 0xFF])
        path.write_bytes(broken)
        read_everything(path)
    assert open_files(tmp_path) == []


def test_a_damaged_file_among_sound_ones_is_told(tmp_path, stack):
    folder = write_dicom(tmp_path / "s", stack)
    broken = folder / "1_0_0.dcm"
    broken.write_bytes(broken.read_bytes()[:400])
    with open_slide(folder) as slide:
        assert len(slide.levels) == 1
        assert len(slide.warnings) == 1
        assert "1_0_0.dcm" in slide.warnings[0]


def test_stack_is_untouched_by_reading(stack: Stack, tmp_path: Path):
    with open_slide(write_dicom(tmp_path / "s", stack, levels=1)) as slide:
        read = slide.read_region(slide.planes[0], 0, 0, 0, 20, 20)
        read[:] = 0
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 20, 20) == stack[0, :20, :20]).all()
