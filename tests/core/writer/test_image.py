from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image, ImageCms

from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.writer import (
    COMPRESSIONS,
    OutputError,
    OutputFormatError,
    check_output,
    read_provenance,
    write_image,
)
from textured_slide import stains, texture

MPP = (0.25, 0.243)
LOSS = (1.5, 2.0, 2.5)
"""Mean error of JPEG at each level; colours taken for others would miss by more than 40."""
ABOUT = {
    "method": "argmax",
    "mpp": [0.25, 0.243],
    "name": 'Schnitt 3 µm "<&>" 切片',
    "nothing": None,
}


@pytest.fixture(scope="module")
def stained() -> UInt8Image:
    """Of odd size, three levels."""
    return stains(1203, 1051)


@pytest.fixture(scope="module", params=COMPRESSIONS)
def written(request, stained, tmp_path_factory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("written") / "fused smear µ.ome.tif"
    write_image(path, stained, mpp=MPP, provenance=ABOUT, compression=request.param)
    return request.param, path


def halved(image):
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    parts = [image[y:height:2, x:width:2].astype(int) for y in (0, 1) for x in (0, 1)]
    return (sum(parts) + 2) // 4


def error(read, wanted):
    return float(np.abs(read.astype(int) - wanted.astype(int)).mean())


def test_our_reader_gives_colours_levels_scale_and_provenance_back(written, stained):
    compression, path = written
    with open_slide(path) as slide:
        assert [level.shape for level in slide.levels] == [(1203, 1051), (601, 525), (300, 262)]
        assert slide.mpp == pytest.approx(MPP)
        assert len(slide.planes) == 1
        assert slide.not_shown == []
        wanted = stained
        for number, level in enumerate(slide.levels):
            image = slide.read_region(slide.planes[0], number, 0, 0, *level.shape)
            limit = LOSS[number] if compression == "jpeg" else 0
            assert error(image, wanted) <= limit
            assert error(image[-8:, -8:], wanted[-8:, -8:]) <= 2 * limit
            wanted = halved(wanted)
    assert read_provenance(path) == ABOUT


def test_openslide_sees_every_level_in_the_right_colours(written, stained):
    compression, path = written
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((1051, 1203), (525, 601), (262, 300))
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(MPP[0])
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP[1])
        wanted = stained
        for number, (width, height) in enumerate(slide.level_dimensions):
            image = np.asarray(slide.read_region((0, 0), number, (width, height)))[..., :3]
            assert error(image, wanted) <= (LOSS[number] if compression == "jpeg" else 0)
            wanted = halved(wanted)


def test_the_tags_are_those_every_reader_agrees_on(written):
    compression, path = written
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert file.is_bigtiff
        assert file.is_ome
        assert len(file.series) == 1
        assert len(file.series[0].levels) == 3
        assert (page.tilelength, page.tilewidth) == (512, 512)
        if compression == "jpeg":
            # Bio-Formats shows YCbCr 4:4:4 pink, OpenSlide RGB JPEG.
            assert page.photometric == tifffile.PHOTOMETRIC.YCBCR
            assert page.subsampling == (2, 2)
        else:
            assert page.photometric == tifffile.PHOTOMETRIC.RGB


def test_the_same_image_makes_the_same_file(stained, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.ome.tif", stained, mpp=MPP, provenance=ABOUT)
    one, two = (tmp_path / name / "a.ome.tif" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.tiff", "A.OME.TIF"])
def test_small_images_without_scale(name, tmp_path):
    image = texture(13, 7)
    write_image(tmp_path / name, image, mpp=None, provenance={}, compression="zstd")
    with open_slide(tmp_path / name) as slide:
        assert slide.mpp is None
        np.testing.assert_array_equal(slide.read_region(slide.planes[0], 0, 0, 0, 13, 7), image)
    assert read_provenance(tmp_path / name) == {}


def test_png_keeps_pixels_scale_and_provenance(tmp_path):
    path, image = tmp_path / "fused.png", texture(60, 70)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write_image(path, image, mpp=MPP, provenance=ABOUT, icc=profile)
    with Image.open(path) as file:
        np.testing.assert_array_equal(np.asarray(file), image)
        assert file.info["icc_profile"] == profile
        assert file.info["dpi"] == pytest.approx((25400 / MPP[1], 25400 / MPP[0]), rel=1e-6)
    assert read_provenance(path) == ABOUT


@pytest.mark.parametrize("name", ["mask.ome.tif", "mask.png"])
def test_masks_are_stored_without_loss_whatever_the_compression(name, tmp_path):
    mask = texture(700, 600)[..., 0]
    write_image(tmp_path / name, mask, mpp=MPP, provenance=ABOUT, compression="jpeg")
    if name.endswith(".png"):
        with Image.open(tmp_path / name) as file:
            np.testing.assert_array_equal(np.asarray(file), mask)
    else:
        with tifffile.TiffFile(tmp_path / name) as file:
            np.testing.assert_array_equal(file.asarray(), mask)
            np.testing.assert_array_equal(file.series[0].levels[1].asarray(), halved(mask))
    assert read_provenance(tmp_path / name) == ABOUT


@pytest.mark.parametrize("name", ["a.ome.tif", "a.png"])
def test_an_existing_file_is_replaced_only_when_told(name, tmp_path):
    path, image = tmp_path / name, texture(20, 20)
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already") as refusal:
        write_image(path, image, mpp=None, provenance={})
    assert refusal.value.exit_code == 5
    assert path.read_bytes() == b"precious"
    write_image(path, image, mpp=None, provenance={}, overwrite=True)
    assert read_provenance(path) == {}
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a", "a.svs", "png", "ome.tif.txt"])
def test_unknown_suffixes_are_a_matter_of_usage(name, tmp_path):
    with pytest.raises(OutputFormatError, match=r"choose \.ome\.tif, \.ome\.tiff, \.png") as e:
        check_output(tmp_path / name)
    assert e.value.exit_code == 1


def test_unknown_compressions_are_a_matter_of_usage(tmp_path):
    with pytest.raises(OutputFormatError, match="choose jpeg, zstd, deflate"):
        write_image(
            tmp_path / "a.ome.tif", texture(9, 9), mpp=None, provenance={}, compression="webp"
        )


def test_a_missing_folder_is_said_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="does not exist") as refusal:
        check_output(tmp_path / "nowhere" / "a.png")
    assert refusal.value.exit_code == 5


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write to")
def test_a_read_only_folder_is_said_before_the_work():
    with pytest.raises(OutputError, match=r"/proc/self/a\.png cannot be written") as refusal:
        check_output("/proc/self/a.png")
    assert refusal.value.exit_code == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch):
    partial = tmp_path / f".a.ome.tif.{os.getpid()}.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"a\.ome\.tif cannot be written \(No space left") as e:
        write_image(tmp_path / "a.ome.tif", texture(300, 300), mpp=None, provenance={})
    assert e.value.exit_code == 5
    assert os.listdir(tmp_path) == []


def test_what_is_no_8_bit_image_is_refused(tmp_path):
    for image in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(OutputError, match="give an 8-bit image"):
            write_image(tmp_path / "a.png", image, mpp=None, provenance={})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_image(tmp_path / "a.ome.tif", texture(9, 9), mpp=None, provenance={})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.ome.tif")]
    assert modes[0] == modes[1]


def test_files_of_others_have_no_provenance(tmp_path):
    Image.fromarray(texture(9, 9)).save(tmp_path / "other.png")
    tifffile.imwrite(tmp_path / "other.tif", texture(9, 9))
    tifffile.imwrite(tmp_path / "other.ome.tif", texture(9, 9), photometric="rgb")
    (tmp_path / "text.tif").write_text("no image")
    for path in tmp_path.iterdir():
        assert read_provenance(path) is None
