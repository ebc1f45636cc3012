from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_focusfuse.tiles import Tile, TileGrid, reflect

eights = st.integers(0, 16).map(lambda n: 8 * n)


@st.composite
def grids(draw) -> TileGrid:
    margin, ramp = draw(eights), draw(eights)
    step = ramp + 8 * draw(st.integers(1, 20))
    start = tuple(-8 * draw(st.integers(0, step // 8 - 1)) for _ in range(2))
    return TileGrid(step + ramp + 2 * margin, margin, ramp, start=start)


@given(grids(), st.integers(1, 700), st.integers(1, 700))
def test_weights_of_all_tiles_sum_to_one_number_inside_and_never_to_zero(grid, height, width):
    total = np.zeros((height + grid.tile * 2, width + grid.tile * 2), np.int64)
    weights = np.multiply.outer(grid.weights(), grid.weights())
    for tile in grid.tiles_for(0, 0, height, width):
        y, x = (first + grid.tile for first in grid.active_origin(tile))
        total[y : y + grid.active, x : x + grid.active] += weights
    inside = total[grid.tile : grid.tile + height, grid.tile : grid.tile + width]
    assert inside.min() > 0
    # Only the first ramp of the first tiles has no neighbour to share with.
    beyond_first = inside[grid.ramp + grid.start[0] :, grid.ramp + grid.start[1] :]
    assert (beyond_first == (grid.ramp + 1) ** 2).all()


@given(grids(), st.integers(0, 900), st.integers(0, 900), st.integers(1, 300), st.integers(1, 300))
def test_tiles_of_a_region_are_those_of_the_slide_that_touch_it(grid, y, x, height, width):
    of_slide = grid.tiles_for(0, 0, 1200, 1200)

    def touches(tile: Tile) -> bool:
        top, left = grid.active_origin(tile)
        return (
            top < y + height
            and left < x + width
            and top + grid.active > y
            and left + grid.active > x
        )

    assert set(grid.tiles_for(y, x, height, width)) == {tile for tile in of_slide if touches(tile)}


def test_tiles_come_from_the_centre_outward():
    grid = TileGrid(64, 8, 8)
    tiles = grid.tiles_for(0, 0, 400, 400)
    centres = np.array([grid.active_origin(tile) for tile in tiles]) + grid.active / 2 - 200
    distances = np.hypot(*centres.T)
    assert (np.diff(distances) >= 0).all()
    assert len(tiles) == 100


def test_origins_are_multiples_of_the_alignment():
    grid = TileGrid(256, 32, 16, alignment=16)
    assert all(
        position % 16 == 0
        for tile in grid.tiles_for(5, 7, 999, 999)
        for position in grid.origin(tile)
    )


@pytest.mark.parametrize(
    "sizes",
    [
        {"tile": 100, "margin": 8, "ramp": 8},
        {"tile": 104, "margin": 12, "ramp": 8},
        {"tile": 104, "margin": 8, "ramp": 4},
        {"tile": 104, "margin": 8, "ramp": 8, "alignment": 16},
        {"tile": 64, "margin": 32, "ramp": 0},
        {"tile": 64, "margin": 0, "ramp": 40},
        {"tile": 64, "margin": 8, "ramp": 8, "start": (8, 0)},
        {"tile": 64, "margin": 8, "ramp": 8, "start": (-40, 0)},
    ],
)
def test_impossible_grids_are_refused(sizes):
    with pytest.raises(ValueError, match="must"):
        TileGrid(**sizes)


@given(st.integers(-200, 200), st.integers(1, 300), st.integers(1, 60))
def test_reflection_is_numpy_padding_whatever_the_request(start, length, size):
    # numpy pads by reflection too, as often as needed
    line = np.arange(size)
    padded = np.pad(line, 600, mode="reflect" if size > 1 else "edge")
    np.testing.assert_array_equal(reflect(start, length, size), padded[600 + start :][:length])
