"""What weighing the evidence is for: averaging where planes agree, selecting where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_focusfuse.benchmark_definition import Z_STEP_UM, SimulatedStack, simulate_specimen
from napari_focusfuse.defocus import Camera, Sheet, Specimen
from napari_focusfuse.fusion.classical import CLASSICAL, EVIDENCE
from napari_focusfuse.fusion.evidence import WHITE_NOISE, EvidenceMethod, shared, shrunk
from napari_focusfuse.fusion.pyramid import expand, reduce
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.metrics import ssim_paper
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.smear import CYTOPLASM, NUCLEUS
from textured_slide import blurred, texture

METHOD = EvidenceMethod(EVIDENCE)
INNER = np.s_[16:-16, 16:-16]


def noisy(image, count, rng, sigma=4.0):
    """(count, Y, X, 3) float32 planes of one image in [0, 1], each with its own noise."""
    noise = rng.standard_normal((count, *image.shape)) * sigma
    return ((image + noise) / 255).astype(np.float32)


def rms(image):
    return float(np.sqrt(np.mean(np.square(image))))


def test_it_is_offered_first():
    assert CLASSICAL[0] is EVIDENCE


@pytest.mark.parametrize("count", [2, 3, 11])
def test_noise_on_a_flat_background_is_that_of_the_mean(count):
    planes = noisy(np.full((192, 192, 3), 200.0), count, np.random.default_rng(count))
    fused = METHOD(planes[None])[0]
    assert fused[INNER].std() <= 1.01 * planes.mean(axis=0)[INNER].std()


def test_planes_that_show_the_same_are_averaged():
    sharp = texture(192, 192).astype(np.float64)
    planes = noisy(sharp, 3, np.random.default_rng(0))
    error = METHOD(planes[None])[0] - sharp / 255
    alone, average = (
        rms((image - sharp / 255)[INNER]) for image in (planes[0], planes.mean(axis=0))
    )
    assert alone > 1.7 * average
    assert rms(error[INNER]) < 1.1 * average


def test_planes_that_differ_by_more_than_their_noise_are_not_averaged():
    sharp = texture(192, 192)
    rng = np.random.default_rng(0)
    planes = np.concatenate([noisy(sharp, 1, rng), noisy(blurred(sharp), 2, rng)])
    fused = METHOD(planes[None])[0]
    alone, average = rms((fused - planes[0])[INNER]), rms((fused - planes.mean(axis=0))[INNER])
    assert alone < 0.1 * average


@pytest.mark.parametrize("place", [70, 100], ids=["overlapping", "touching"])
def test_edges_at_two_depths_are_nearer_the_truth_than_by_a_mask_that_knows_the_depth(place):
    stack = two_cells(place)
    planes = stack.planes.astype(np.float32) / 255
    fused = to_uint8(METHOD(planes[None])[0])
    nearest = np.rint(stack.height_um / Z_STEP_UM).astype(int) + 1
    masked = np.take_along_axis(stack.planes, nearest[None, ..., None], axis=0)[0]
    truth = stack.truth_all
    assert rms((fused - truth.astype(float))[INNER]) < 0.5 * rms(
        (masked - truth.astype(float))[INNER]
    )
    assert ssim_paper(fused, truth, 16) > ssim_paper(masked, truth, 16)


def two_cells(place: int) -> SimulatedStack:
    """A dark nucleus sharp in the upper plane over or beside a pale cell sharp in the lower."""
    rng = np.random.default_rng(0)
    grain = 1 + 0.2 * rng.standard_normal((120, 120, 1)).clip(-3, 3)
    cell, nucleus = disc(120, 50) * grain * CYTOPLASM[0], disc(64, 24) * NUCLEUS
    sheets = (
        Sheet(cell.astype(np.float32), np.full((120, 120), -Z_STEP_UM, np.float32), 20, 20),
        Sheet(nucleus.astype(np.float32), np.full((64, 64), Z_STEP_UM, np.float32), 70, place),
    )
    specimen = Specimen((192, 192), sheets)
    camera = Camera(electrons=30000.0, read_electrons=0.0, jpeg_quality=None)
    return simulate_specimen(specimen, specimen.height_map(), rng, camera=camera)


def disc(side: int, radius: float):
    y, x = np.indices((side, side)) - side / 2
    return np.clip((radius - np.hypot(y, x)) / 1.5 + 0.5, 0, 1)[..., None]


def test_the_order_of_the_planes_does_not_matter():
    stack = np.stack([texture(64, 96, seed) for seed in range(5)]).astype(np.float32)[None] / 255
    np.testing.assert_allclose(METHOD(stack[:, [3, 0, 4, 2, 1]]), METHOD(stack), atol=1e-5)


def test_the_finer_and_the_coarser_count_less_with_each_step_of_scale():
    own = [torch.zeros(1, 1, side, side) for side in (64, 32, 16, 8)]
    own[1][..., 16, 16] = 1.0
    finest, same, coarser, coarsest = shared(own, 0.5)
    torch.testing.assert_close(same, own[1])
    torch.testing.assert_close(finest, 0.5 * expand(own[1]))
    torch.testing.assert_close(coarser, 0.5 * reduce(own[1]))
    torch.testing.assert_close(coarsest, 0.25 * reduce(reduce(own[1])))


def test_what_noise_could_give_is_shrunk_to_nothing():
    values = torch.tensor([[1.0, 1.0, 5.0], [1.4, 1.0, 1.0]]).view(2, 1, 1, 3)
    deviations = shrunk(values, 0.5).view(2, 3)
    expected = torch.tensor([0.0, 0.0, 2 * (1 - 0.25 / 4)])
    torch.testing.assert_close(deviations, torch.stack([expected, -expected]))


def test_white_noise_leaves_in_each_band_what_is_said():
    level = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1, 1024, 1024)))
    for said in WHITE_NOISE:
        coarser = reduce(level)
        assert (level - expand(coarser)).std().item() == pytest.approx(said, rel=0.05)
        level = coarser


def test_it_looks_no_further_than_it_says():
    assert measure_reach(METHOD.compute, EVIDENCE, planes=2) == EVIDENCE.halo
