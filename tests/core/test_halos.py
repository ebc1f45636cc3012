"""Bright and dark edges of sheets that lie over each other at different heights.

A hard mask must fail there: it gives each pixel to one plane, and that plane shows the other
sheet's edge as a halo.
"""

from __future__ import annotations

import numpy as np
import pytest

from focusfuse_training.scoring import apply
from napari_focusfuse.benchmark_definition import SimulatedStack, simulate_specimen
from napari_focusfuse.defocus import Camera, Float32Array, Sheet, Specimen, random_field
from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.fusion.depth import DepthMapper
from napari_focusfuse.fusion.maps import CONFIDENT

SIDE, BORDER, NEAR = 192, 16, 12
Y, X = np.indices((SIDE, SIDE)).astype(np.float32)
FROM_CENTRE = np.hypot(Y - 96, X - 110)
EDGE_X, HOLE, RIM = 110, 26, 50


def opacity(distance: Float32Array) -> Float32Array:
    return np.clip(distance + 0.5, 0, 1)


@pytest.fixture(scope="module")
def stack() -> SimulatedStack:
    """A half plane at -2.7 um under a ring at +2.7 um, whose hole has a bright edge."""
    grain = 1 + 0.15 * random_field((SIDE, SIDE), 3.0, np.random.default_rng(0))

    def sheet(inside: Float32Array, density: float, height_um: float) -> Sheet:
        dense = np.repeat((inside * grain * np.float32(density))[..., None], 3, axis=2)
        return Sheet(dense, np.full((SIDE, SIDE), height_um, np.float32))

    low = sheet(opacity(EDGE_X - X), 0.7, -2.7)
    high = sheet(opacity(FROM_CENTRE - HOLE) * opacity(RIM - FROM_CENTRE), 0.6, 2.7)
    specimen = Specimen((SIDE, SIDE), (sheet(np.ones_like(X), 0.03, 0.0), low, high))
    camera = Camera(electrons=20000.0, jpeg_quality=None)
    rng, height = np.random.default_rng(1), specimen.height_map()
    return simulate_specimen(specimen, height, rng, camera=camera, noisy_truth=False)


def inner() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[BORDER:-BORDER, BORDER:-BORDER] = True
    return mask


def near_edges() -> np.ndarray:
    distances = (np.abs(X - EDGE_X), np.abs(FROM_CENTRE - HOLE), np.abs(FROM_CENTRE - RIM))
    return inner() & (np.min(distances, axis=0) < NEAR)


def errors(image: np.ndarray, stack: SimulatedStack) -> np.ndarray:
    """(Y, X) mean absolute difference to the truth, in grey levels."""
    return np.abs(image.astype(int) - stack.truth_all).mean(axis=2)


@pytest.mark.parametrize("name", ["evidence", "pyramid", "dtcwt"])
def test_overlapping_edges_come_out_better_than_by_the_best_hard_mask(
    name: str, stack: SimulatedStack
) -> None:
    fused = errors(apply(load_method(name, "cpu"), stack.planes), stack)
    mask = errors(stack.oracle, stack)
    overlap = near_edges() & (X < EDGE_X) & (FROM_CENTRE > HOLE) & (FROM_CENTRE < RIM)
    for where in (near_edges(), overlap):
        assert fused[where].mean() < 0.65 * mask[where].mean()
    assert np.quantile(fused[near_edges()], 0.99) < np.quantile(mask[near_edges()], 0.99)


@pytest.mark.parametrize("name", ["evidence", "pyramid", "dtcwt"])
def test_no_halo_comes_from_a_plane_in_which_an_edge_is_blurred(
    name: str, stack: SimulatedStack
) -> None:
    fused = apply(load_method(name, "cpu"), stack.planes)
    # Where one sheet has an edge and the other has none, its own plane is the whole truth.
    dark = inner() & (np.abs(X - EDGE_X) < NEAR) & (FROM_CENTRE > RIM + 2 * NEAR)
    bright = inner() & (np.abs(FROM_CENTRE - HOLE) < NEAR) & (X > EDGE_X + NEAR)
    for where, sharp in ((dark, 0), (bright, 2)):
        distances = [np.abs(fused.astype(int) - plane)[where].mean() for plane in stack.planes]
        assert int(np.argmin(distances)) == sharp
        assert distances[sharp] < 0.5 * sorted(distances)[1]


def test_where_edges_contradict_each_other_no_depth_is_claimed(stack: SimulatedStack) -> None:
    mapper = DepthMapper(stack.focus_um)
    depth, confidence = np.moveaxis(mapper(stack.planes[None].astype(np.float32) / 255)[0], -1, 0)
    about = mapper.maps[0]
    rim = inner() & (np.abs(FROM_CENTRE - RIM) < 3)
    alone, crossing = rim & (X > EDGE_X + 2 * NEAR), rim & (X < EDGE_X - 2 * NEAR)
    assert (confidence[alone] >= CONFIDENT).mean() > 0.6
    height = about.low + depth * (about.high - about.low)
    assert np.median(np.abs(height[alone] - 2.7)) < 0.7
    assert (confidence[crossing] >= CONFIDENT).mean() < 0.1
