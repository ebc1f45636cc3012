from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_focusfuse import dyadic
from napari_focusfuse.dyadic import DyadicSlide
from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from napari_focusfuse.readers.array import ArraySlide
from slide_files import halved, make_stack, pyramid, write_ome


class Sized:
    """An array that remembers the largest part it was asked for."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.largest = 0
        self.reads = 0

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        shape = [part.stop - part.start for part in index[1:]]
        self.largest = max(self.largest, shape[0] * shape[1])
        self.reads += 1
        return np.zeros((*shape, 3), np.uint8)


def test_levels_are_halved_by_integer_division_down_to_one_tile():
    slide = DyadicSlide(ArraySlide(Sized((11, 86_001, 100_003, 3))))
    assert [level.shape for level in slide.levels] == [
        (86_001 >> n, 100_003 >> n) for n in range(9)
    ]
    assert max(slide.levels[-1].shape) <= 512
    assert [level.downsample for level in slide.levels] == [(2.0**n, 2.0**n) for n in range(9)]


def test_a_long_thin_image_keeps_at_least_one_pixel():
    slide = DyadicSlide(ArraySlide(Sized((1, 3, 40_000, 3))))
    assert slide.levels[-1].shape == (1, 20_000)


def test_missing_levels_are_means_of_two_by_two(tmp_path):
    stack = make_stack(2, 1100, 1301)
    levels = pyramid(stack, 2, step=4)
    with DyadicSlide(ArraySlide(levels)) as slide:
        assert [slide.stored(slide.planes[0], n) for n in range(len(slide.levels))] == [
            True,
            False,
            True,
        ]
        for plane in slide.planes:
            middle = slide.read_region(plane, 1, 0, 0, *slide.levels[1].shape)
            assert (middle == halved(stack)[plane.index]).all()
            coarse = slide.read_region(plane, 2, 0, 0, *slide.levels[2].shape)
            assert (coarse == levels[1][plane.index]).all()


def test_a_level_made_in_pieces_is_the_level_made_at_once(monkeypatch):
    stack = make_stack(1, 1030, 1047)
    with DyadicSlide(ArraySlide(stack)) as slide:
        whole = slide.read_region(slide.planes[0], 2, 0, 0, 257, 261)
        assert (whole == halved(halved(stack))[0]).all()
        monkeypatch.setattr(dyadic, "PIECE", 64)
        assert (slide.read_region(slide.planes[0], 2, 0, 0, 257, 261) == whole).all()


@given(st.integers(0, 250), st.integers(0, 250), st.integers(1, 40), st.integers(1, 40))
def test_any_region_of_a_made_level_is_part_of_it(y, x, height, width):
    stack = make_stack(1, 700, 620)
    with DyadicSlide(ArraySlide(stack)) as slide:
        whole = halved(stack)[0]
        part = slide.read_region(slide.planes[0], 1, y, x, height, width)
        assert (part == whole[y : y + height, x : x + width]).all()


def test_memory_is_bounded_when_a_coarse_tile_needs_everything():
    data = Sized((1, 9_000, 20_000, 3))
    with DyadicSlide(ArraySlide(data)) as slide:
        last = len(slide.levels) - 1
        slide.read_region(slide.planes[0], last, 0, 0, *slide.levels[last].shape)
    assert data.reads > 1
    assert data.largest <= dyadic.PIECE**2 <= 64e6


def test_a_file_that_halves_already_is_passed_on(tmp_path, stack):
    path = write_ome(tmp_path / "s.ome.tif", make_stack(2, 600, 1200), levels=3)
    with open_slide(path) as stored, DyadicSlide(open_slide(path)) as slide:
        assert [level.shape for level in slide.levels] == [level.shape for level in stored.levels]
        for level in range(3):
            assert slide.stored(slide.planes[0], level)
            assert slide.tile_hint(level) == stored.tile_hint(level)


def test_everything_else_is_the_slide_s_own(tmp_path, stack):
    path = write_ome(
        tmp_path / "s.ome.tif", stack, PhysicalSizeX=0.25, PhysicalSizeY=0.25, PhysicalSizeZ=2.7
    )
    with DyadicSlide(open_slide(path, zero=2)) as slide:
        assert slide.planes == slide.slide.planes
        assert (slide.zero, slide.mpp, slide.path) == (2, (0.25, 0.25), path)
        assert (slide.format, slide.bounds) == ("tiff", slide.slide.bounds)


def test_a_level_rounded_up_by_the_file_is_used():
    stack = make_stack(1, 1027, 601)
    up = np.pad(halved(stack), ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    with DyadicSlide(ArraySlide([stack, up])) as slide:
        assert slide.levels[1].shape == (513, 300)
        assert slide.stored(slide.planes[0], 1)
        assert (slide.read_region(slide.planes[0], 1, 0, 0, 513, 300) == up[0, :513, :300]).all()


@pytest.mark.parametrize("shape", [(5, 7), (4, 4), (2, 3)])
def test_halving_rounds_half_up(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert (halve(image) == halved(image)).all()
    assert halve(np.array([[[0], [0]], [[1], [1]]], np.uint8).repeat(3, -1))[0, 0, 0] == 1
