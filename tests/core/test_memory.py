from __future__ import annotations

import numpy as np
import pytest

from napari_focusfuse.fusion import memory
from napari_focusfuse.fusion.memory import OutOfMemoryError, TileComputer
from napari_focusfuse.fusion.method import FusionError, FusionMethod, MethodInfo
from napari_focusfuse.fusion.region import Preset, finish, run_fusion
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import Region
from napari_focusfuse.tiles import TileGrid
from textured_slide import planned, textured_slide


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    return textured_slide(250, 250)


class Greedy(FusionMethod):
    """The mean of the planes, but only if a call asks for few enough pixels."""

    def __init__(self, limit: int, halo: int = 16, error: type[Exception] = RuntimeError) -> None:
        self.info = MethodInfo("greedy", "Greedy", "selection", None, halo)
        self.limit, self.error, self.largest = limit, error, 0

    def compute(self, stacks):
        pixels = stacks.shape[0] * stacks.shape[2] * stacks.shape[3]
        if pixels > self.limit:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 GiB")
        self.largest = max(self.largest, pixels)
        return stacks.mean(axis=1)


SQUARE = Region(0, 0, 250, 250)
TILE = Preset("small", tile=128, margin=16, ramp=8)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
@pytest.mark.parametrize("limit", [4 * 128**2, 128**2, 127**2, 80**2])
def test_too_little_memory_means_smaller_pieces_and_the_same_picture(slide, limit, error):
    generous, greedy = Greedy(10**9), Greedy(limit, error=error)
    plan = planned(slide, generous, SQUARE, TILE)
    expected = finish(run_fusion(plan, generous, batch=8)).image
    np.testing.assert_array_equal(finish(run_fusion(plan, greedy, batch=8)).image, expected)
    assert 0 < greedy.largest <= limit


def test_many_planes_are_computed_in_windows_and_the_picture_is_the_same(slide, monkeypatch):
    plan = planned(slide, Greedy(10**9), SQUARE, TILE)
    expected = finish(run_fusion(plan, Greedy(10**9))).image
    monkeypatch.setattr(memory, "MOST_AT_ONCE", 3 * 100**2)
    windowed = Greedy(10**9)
    np.testing.assert_array_equal(finish(run_fusion(plan, windowed)).image, expected)
    assert windowed.largest == 80**2
    far = Greedy(10**9, halo=200)
    finish(run_fusion(planned(slide, far, SQUARE, TILE), far))
    assert far.largest == 128**2


def test_a_method_that_looks_further_than_its_margin_asks_before_its_tiles_shrink(slide):
    greedy = Greedy(127**2, halo=200)
    with pytest.raises(OutOfMemoryError, match=r"smaller ones would change its result .*\?$") as e:
        finish(run_fusion(planned(slide, greedy, SQUARE, TILE), greedy))
    assert e.value.exit_code == 4


def test_memory_for_nothing_at_all_is_said(slide):
    greedy = Greedy(10)
    with pytest.raises(OutOfMemoryError, match="even for 80 px tiles: free some memory, or"):
        finish(run_fusion(planned(slide, greedy, SQUARE, TILE), greedy))


def test_other_errors_are_not_taken_for_lack_of_memory():
    def broken(stacks):
        raise RuntimeError("expected 9 channels")

    grid = TileGrid(128, 16, 8)
    compute = TileComputer(broken, grid, title="Broken", device="cpu", halo=16)
    with pytest.raises(RuntimeError, match="9 channels"):
        compute(np.zeros((1, 3, 128, 128, 3), np.float32))


def test_values_that_are_no_numbers_are_never_shown(slide):
    method = Greedy(10**9)
    method.compute = lambda stacks: np.full(stacks[:, 0].shape, np.nan, np.float32)
    with pytest.raises(FusionError, match="Greedy gave values that are not numbers"):
        finish(run_fusion(planned(slide, method, SQUARE, TILE), method))
