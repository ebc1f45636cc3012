"""The classical restorations undo the blur they are told of, and no more."""

from collections.abc import Callable

import numpy as np
import pytest

from focusfuse_training.restoration import RESTORATIONS, richardson_lucy, wiener
from napari_focusfuse.benchmark_definition import OPTICS, simulate
from napari_focusfuse.defocus import Camera, gaussian_blur
from napari_focusfuse.slide import UInt8Image

CLEAN = Camera(electrons=1e7, read_electrons=0.0, jpeg_quality=None)


@pytest.mark.parametrize("name", RESTORATIONS)
def test_a_flat_picture_stays_flat(name: str) -> None:
    flat = np.full((60, 70, 3), 173, dtype=np.uint8)
    assert np.array_equal(RESTORATIONS[name](flat), flat)


@pytest.mark.parametrize(
    "restored",
    [lambda i: wiener(i, 2.7, 0.001), lambda i: richardson_lucy(i, 2.7, 20)],
    ids=["Wiener", "Richardson-Lucy"],
)
def test_a_known_blur_without_noise_is_undone(
    restored: Callable[[UInt8Image], UInt8Image],
) -> None:
    rng = np.random.default_rng(0)
    scene = gaussian_blur(rng.random((160, 160, 3), dtype=np.float32), 1.5)
    image = np.rint(np.clip(128 + 700 * (scene - 0.5), 1, 255)).astype(np.uint8)
    height = np.full(image.shape[:2], 2.7, dtype=np.float32)
    stack = simulate(image, height, rng, optics=OPTICS, camera=CLEAN)
    layer, truth = stack.planes[1].astype(float), stack.truth_one.astype(float)
    before = np.abs(layer - truth)[32:-32, 32:-32].mean()
    after = np.abs(restored(stack.planes[1]) - truth)[32:-32, 32:-32].mean()
    assert after < 0.85 * before
