from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import SlideError, UnsupportedSlideError
from slide_files import halved, make_stack


class Recorder:
    """A double of a huge lazy array: knows its shape, makes what is sliced, notes the sizes."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.sizes: list[tuple[int, ...]] = []

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        z, ys, xs = index
        y, x = np.mgrid[ys, xs]
        self.sizes.append(y.shape)
        return np.stack([(y + z) % 256, x % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def test_a_huge_lazy_array_is_only_sliced():
    data = Recorder((11, 86_000, 100_000, 3))
    slide = ArraySlide(data, name="huge")
    assert data.sizes == []
    part = slide.read_region(slide.planes[5], 0, 70_000, 90_000, 512, 512)
    assert data.sizes == [(512, 512)]
    assert tuple(part[3, 4]) == ((70_003 + 5) % 256, 90_004 % 256, 160_007 % 256)


@pytest.mark.parametrize("lazy", ["numpy", "dask", "zarr"])
def test_every_kind_of_array_reads_alike(lazy):
    stack = make_stack(3, 40, 60)
    data: Any = stack
    if lazy == "dask":
        data = pytest.importorskip("dask.array").from_array(stack, chunks=(1, 16, 16, 3))
    elif lazy == "zarr":
        zarr = pytest.importorskip("zarr")
        data = zarr.array(stack, chunks=(1, 16, 16, 3))
    slide = ArraySlide(data, mpp=(0.25, 0.25), z_um=[-1, 0, 1])
    assert [plane.z_um for plane in slide.planes] == [-1, 0, 1]
    for plane in slide.planes:
        read = slide.read_region(plane, 0, 10, 20, 15, 25)
        assert (read == stack[plane.index, 10:25, 20:45]).all()
    assert slide.tile_hint(0) == ((512, 512) if lazy == "numpy" else (16, 16))


def test_an_image_without_z_has_one_plane():
    image = make_stack(1, 20, 30)[0]
    slide = ArraySlide(image)
    assert len(slide.planes) == 1
    assert (slide.read_region(slide.planes[0], 0, 0, 0, 20, 30) == image).all()


def test_what_is_read_is_a_copy():
    image = make_stack(1, 20, 30)[0]
    slide = ArraySlide(image)
    before = image.copy()
    slide.read_region(slide.planes[0], 0, 0, 0, 20, 30)[:] = 0
    assert (image == before).all()


def test_a_list_is_a_pyramid():
    stack = make_stack(2, 41, 61)
    slide = ArraySlide([stack, halved(stack)])
    assert [level.shape for level in slide.levels] == [(41, 61), (20, 30)]
    assert slide.levels[1].downsample == (2.0, 2.0)
    assert (slide.read_region(slide.planes[1], 1, 0, 0, 20, 30) == halved(stack)[1]).all()


def test_transparency_shows_the_background():
    image = np.zeros((2, 3, 4), np.uint8)
    image[0, :, 3] = (0, 128, 255)
    slide = ArraySlide(image)
    read = slide.read_region(slide.planes[0], 0, 0, 0, 2, 3)
    assert read[0, :, 0].tolist() == [255, 127, 0]
    assert read.shape == (2, 3, 3)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.uint16),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((2, 2, 4, 5, 3), np.uint8),
    ],
)
def test_what_is_not_8_bit_rgb_is_refused_in_one_sentence(data):
    with pytest.raises(UnsupportedSlideError, match=r"^scan holds .*convert it to 8-bit RGB\.$"):
        ArraySlide(data, name="scan")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "holds no array"),
        ([np.zeros((2, 8, 8, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)], {}, "without a z axis"),
        ([np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)], {}, "unequal depth"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"z_um": [0.0]}, "increasing z_um"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"z_um": [1.0, 0.0]}, "increasing z_um"),
    ],
)
def test_contradictions_are_told(data, options, message):
    with pytest.raises(SlideError, match=message):
        ArraySlide(data, **options)
