"""Stacks of arrays: every type comes back as it went in, and what cannot be fused is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_catalogue import save

from napari_focusfuse import fuse_stack
from napari_focusfuse.fusion.region import fuse
from napari_focusfuse.fusion.stack import StackError
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import PlaneError
from napari_focusfuse.weights import load_model, save_model
from textured_slide import texture, textured_slide

HEIGHT, WIDTH = 300, 340


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    slide = textured_slide(HEIGHT, WIDTH)
    return np.stack([slide.read_region(p, 0, 0, 0, HEIGHT, WIDTH) for p in slide.planes])


class Lazy:
    """An array that remembers how much of it was read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.largest = 0

    def __getitem__(self, place):
        part = self.array[place]
        self.largest = max(self.largest, part.size)
        return part


def test_a_network_is_told_heights_and_pixel_size(stack, tmp_path):
    save(tmp_path, "swift-three")
    model, planes = tmp_path / "swift-three.safetensors", stack[:3, :64, :64]
    network, card = load_model(model)
    torch.nn.init.normal_(network.told_half.linear.weight)  # from nothing it hears nothing
    save_model(model, network, card)
    slide = ArraySlide(planes, z_um=(0.0, 1.0, 4.0), mpp=(0.5, 0.5))
    told = fuse_stack(planes, str(model), device="cpu", z_um=(0.0, 1.0, 4.0), mpp=0.5)
    known = fuse(slide, planes="all", method=str(model), device="cpu")
    np.testing.assert_array_equal(told, known.image)
    untold = fuse_stack(planes, str(model), device="cpu")
    assert (told != untold).any()
    unknown = fuse_stack(planes, str(model), device="cpu", z_um=(None, None, None))
    np.testing.assert_array_equal(unknown, untold)


@pytest.mark.parametrize("z_um", [(0.0, 1.0), (0.0, 2.0, 1.0), (1.0, None, 1.0)])
def test_heights_that_cannot_be_are_refused(stack, z_um):
    with pytest.raises(StackError, match="does not say how high 3 planes lie"):
        fuse_stack(stack[:3], "argmax", z_um=z_um)


@pytest.mark.parametrize("method", ["argmax", "evidence"])
def test_it_is_the_fusion_of_a_slide_of_the_same_planes(stack, method):
    wanted = fuse(ArraySlide(stack), planes="all", method=method, device="cpu").image
    fused = fuse_stack(stack, method, device="cpu")
    assert fused.dtype == np.uint8
    assert np.abs(fused.astype(int) - wanted).max() <= 1
    np.testing.assert_array_equal(fuse_stack(list(stack), method, device="cpu"), fused)


def test_grey_comes_out_grey_and_16_bits_keep_their_precision(stack):
    grey = stack[..., 1]
    fused = fuse_stack(grey, "argmax", device="cpu")
    assert (fused.shape, fused.dtype) == ((HEIGHT, WIDTH), np.uint8)
    coloured = fuse_stack(np.repeat(grey[..., None], 3, -1), "argmax", device="cpu")
    np.testing.assert_array_equal(fused, coloured[..., 0])
    fine = fuse_stack(grey.astype(np.uint16) * 257, "argmax", device="cpu")
    assert fine.dtype == np.uint16
    assert np.abs(fine / 257 - fused).max() <= 0.51
    assert len(np.unique(fine)) > 1000  # more values than 8 bits have
    real = fuse_stack(grey / 255, "argmax", device="cpu")
    assert real.dtype == np.float64
    np.testing.assert_allclose(real * 65535, fine, atol=0.6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_all_planes_agree_on_is_kept_to_the_last_step(dtype):
    values = np.random.default_rng(0).integers(0, 256, (200, 150)).astype(np.float64)
    image = values / 255 if dtype is np.float32 else values * (np.iinfo(dtype).max // 255)
    image = image.astype(dtype)
    fused = fuse_stack(np.stack([image] * 3), "argmax", device="cpu")
    np.testing.assert_allclose(fused, image, rtol=0, atol=3e-7 if dtype is np.float32 else 0)
    flat = np.full((3, 70, 50), 200, dtype) if dtype is not np.float32 else np.ones((3, 70, 50))
    np.testing.assert_allclose(fuse_stack(flat, "pyramid", device="cpu"), flat[0], atol=1e-6)


def test_a_camera_of_12_bits_says_what_is_white(stack):
    grey = stack[..., 1].astype(np.uint16) * 16
    fused = fuse_stack(grey, "argmax", white=4095, device="cpu")
    wanted = fuse_stack(stack[..., 1].astype(np.float64) * 16 / 4095, "argmax", device="cpu")
    assert np.abs(fused - wanted * 4095).max() <= 0.51
    with pytest.raises(StackError, match=r"Plane 0 holds values from .*, and values from 0 to 99"):
        fuse_stack(grey, "argmax", white=99, device="cpu")


def test_planes_are_read_tile_by_tile():
    planes = [Lazy(np.tile(texture(64, 64, seed)[..., 0], (32, 32))) for seed in range(2)]
    fused = fuse_stack(planes, "argmax", device="cpu")
    assert fused.shape == planes[0].shape
    assert max(plane.largest for plane in planes) < 0.2 * fused.size


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ([], "There is no plane to fuse"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"shape \(8, 8, 4\) cannot be fused"),
        (np.zeros(7, np.uint8), r"shape \(\) cannot be fused"),
        (np.zeros((2, 8, 8), np.int32), "type int32 cannot be fused; convert them to one of uint8"),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)], "8 x 8 uint8 and another 8 x 9"),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint16)], "one size and type"),
        (np.full((2, 8, 8), np.nan), "Plane 0 holds values that are not numbers"),
        ([np.zeros((8, 8)), np.full((8, 8), np.inf)], "Plane 1 holds values from inf"),
        (np.full((2, 8, 8), -0.5), "Plane 0 holds values from -0.5"),
    ],
)
def test_what_cannot_be_fused_is_told_in_a_sentence(planes, message):
    with pytest.raises(StackError, match=message) as error:
        fuse_stack(planes, "argmax", device="cpu")
    assert str(error.value).endswith(".")


def test_one_plane_is_enough_for_a_selection_and_too_few_for_a_network():
    plane = texture(40, 50)[None]
    np.testing.assert_array_equal(fuse_stack(plane, "argmax", device="cpu"), plane[0])
    with pytest.raises(PlaneError, match="takes 3 focus layers, not 1"):
        fuse_stack(plane, "swift-three", device="cpu")
    with pytest.raises(PlaneError, match="swift takes 1 or 3 focus layers, not 2"):
        fuse_stack(np.concatenate([plane, plane]), "swift", device="cpu")
