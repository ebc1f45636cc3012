from __future__ import annotations

import numpy as np
import pytest

from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import (
    FocusFuseError,
    Level,
    PlaneError,
    Region,
    RegionError,
    Slide,
    SlideError,
)


def slide(planes: int = 3, z_um: list[float] | None = None, zero: int | None = None) -> Slide:
    data = np.arange(planes * 6 * 8 * 3, dtype=np.uint32).reshape(planes, 6, 8, 3)
    return ArraySlide((data % 251).astype(np.uint8), name="a stack", z_um=z_um, zero=zero)


@pytest.mark.parametrize(
    ("z_um", "zero"),
    [
        ([-2.7, 0.0, 2.7], 1),
        ([-1.0, 0.5, 2.0], 1),
        ([-5.0, -3.0, -1.0], 2),
        ([0.0, 2.7, 5.4], 1),  # starts at 0: the file counts from its first plane, the middle it is
        (None, 1),
    ],
)
def test_layer_zero_is_the_plane_of_smallest_height_or_the_middle(z_um, zero):
    assert slide(z_um=z_um).zero == zero


def test_layer_zero_can_be_chosen_and_must_exist():
    assert slide(zero=2).zero == 2
    with pytest.raises(PlaneError, match=r"a stack has 3 focus layers.*must be 0 to 2, not 3"):
        slide(zero=3)


@pytest.mark.parametrize(
    ("z_um", "step"),
    [([0, 2.7, 5.4], 2.7), ([0, 2.7, 5.42], 2.71), ([0, 2.7, 6.0], None), (None, None)],
)
def test_step_is_known_only_where_steps_are_equal(z_um, step):
    found = slide(z_um=z_um).z_step_um
    assert found is None if step is None else found == pytest.approx(step)


def test_offsets_count_from_layer_zero():
    with slide(z_um=[-2.7, 0.0, 2.7]) as opened:
        assert [opened.offset(plane) for plane in opened.planes] == [-1, 0, 1]
        assert opened.plane_at(1) is opened.planes[2]
        with pytest.raises(PlaneError, match=r"has no focus layer \+2; it has layers -1 to \+1"):
            opened.plane_at(2)


def test_a_region_that_leaves_the_slide_is_filled_with_background():
    with slide() as opened:
        whole = opened.read_region(opened.planes[1], 0, 0, 0, 6, 8)
        part = opened.read_region(opened.planes[1], 0, -2, 5, 5, 6)
        assert part.shape == (5, 6, 3)
        assert (part[:2] == 255).all()
        assert (part[:, 3:] == 255).all()
        assert (part[2:, :3] == whole[:3, 5:]).all()
        assert (opened.read_region(opened.planes[1], 0, 100, 100, 2, 2) == 255).all()


def test_a_stack_is_its_planes():
    with slide() as opened:
        wanted = (opened.planes[2], opened.planes[0])
        stack = opened.read_stack(wanted, 0, 1, 2, 3, 4)
        assert stack.shape == (2, 3, 4, 3)
        for plane, image in zip(wanted, stack, strict=True):
            assert (image == opened.read_region(plane, 0, 1, 2, 3, 4)).all()


@pytest.mark.parametrize(
    ("level", "height", "width", "message"),
    [
        (1, 1, 1, "has levels 0 to 0, not 1"),
        (-1, 1, 1, "has levels 0 to 0, not -1"),
        (0, 0, 5, "cannot be read at once"),
        (0, -1, 5, "cannot be read at once"),
        (0, 1 << 15, 1 << 15, "cannot be read at once"),
    ],
)
def test_impossible_requests_are_refused(level, height, width, message):
    with slide() as opened, pytest.raises(RegionError, match=message):
        opened.read_region(opened.planes[0], level, 0, 0, height, width)


def test_a_plane_of_another_slide_is_refused():
    with slide() as opened, slide(z_um=[1, 2, 3]) as other, pytest.raises(PlaneError):
        opened.read_region(other.planes[0], 0, 0, 0, 2, 2)


@pytest.mark.parametrize("sides", [(0, 5), (5, 1 << 20)])
def test_impossible_sizes_are_refused(sides):
    class Huge:
        shape = (*sides, 3)
        dtype = np.dtype(np.uint8)

    with pytest.raises(SlideError, match="sides of 1 to 524288"):
        ArraySlide(Huge(), name="huge")


@pytest.mark.parametrize(
    ("full", "size", "downsample"),
    [(1001, 500, 2.0), (1001, 501, 2.0), (1000, 250, 4.0), (1000, 400, 2.5), (7, 7, 1.0)],
)
def test_downsample_is_whole_but_for_rounding(full, size, downsample):
    level = Level.under((full, 640), (size, 320))
    assert level.downsample == (downsample, 2.0)
    assert level.shape == (size, 320)


def test_a_clipped_region_lies_inside():
    assert Region(-5, 2, 10, 10).clipped(20, 8) == Region(0, 2, 5, 6)
    assert Region(50, 0, 5, 5).clipped(20, 8).height == 0


def test_every_error_is_ours_and_a_builtin():
    assert issubclass(SlideError, (FocusFuseError, OSError))
    assert {SlideError.exit_code, PlaneError.exit_code, RegionError.exit_code} == {4}
