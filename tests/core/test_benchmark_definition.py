"""The benchmark's truth and split are what its description says."""

from pathlib import Path

import numpy as np
import pytest

from napari_focusfuse.benchmark_definition import (
    DataError,
    benchmark_stack,
    data_set,
    simulate,
    simulate_specimen,
)
from napari_focusfuse.defocus import random_field
from napari_focusfuse.metrics import ssim_paper
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.smear import draw_smear


def textured(side: int = 160) -> np.ndarray:
    rng = np.random.default_rng(0)
    return to_uint8(0.7 + 0.1 * random_field((side, side), 2.0, rng)[..., None].repeat(3, axis=2))


def test_the_split_has_no_image_in_two_parts() -> None:
    parts = data_set().images
    assert {part: len(images) for part, images in parts.items()} == {
        "train": 7,
        "validation": 1,
        "calibration": 1,
        "test": 2,
    }
    names = [name for images in parts.values() for name in images]
    digests = [digest for images in parts.values() for digest in images.values()]
    assert len(set(names)) == len(set(digests)) == 11


def test_a_missing_or_wrong_image_is_named(tmp_path: Path) -> None:
    name = next(iter(data_set().images["test"]))
    with pytest.raises(DataError, match=f"{name} is missing"):
        data_set().read(tmp_path, "test")
    (tmp_path / name).write_bytes(b"another picture")
    with pytest.raises(DataError, match="is not the image"):
        data_set().read(tmp_path, "test")


def test_the_same_seed_gives_the_same_stack() -> None:
    first, second = (benchmark_stack(textured(), 8.0, 3) for _ in range(2))
    np.testing.assert_array_equal(first.planes, second.planes)
    assert not np.array_equal(first.planes, benchmark_stack(textured(), 8.0, 4).planes)


def test_a_plane_in_focus_equals_its_truth_noise_included() -> None:
    flat = np.zeros((160, 160), dtype=np.float32)
    stack = simulate(textured(), flat, np.random.default_rng(0))
    np.testing.assert_array_equal(stack.planes[1], stack.truth_one)
    np.testing.assert_array_equal(stack.truth_one, stack.truth_all)
    above = simulate(textured(), flat + 2.7, np.random.default_rng(0))
    np.testing.assert_allclose(above.planes[2].astype(int), above.truth_all, atol=1)


def test_deeper_specimens_are_harder() -> None:
    scores = []
    for depth in (2.0, 8.0):
        stack = benchmark_stack(textured(), depth, 0)
        scores.append(ssim_paper(stack.planes[1], stack.truth_one, border=32))
    assert scores[0] > scores[1]


def test_a_drawn_smear_is_in_focus_where_its_height_says() -> None:
    rng = np.random.default_rng(5)
    specimen = draw_smear((320, 320), rng, cells=5, depth_um=5.4)
    heights = specimen.height_map()
    stack = simulate_specimen(specimen, heights, rng, layers=5)
    error = np.abs(stack.planes.astype(int) - stack.truth_all).mean(axis=-1)
    defocus = np.abs(heights - 2.7 * np.arange(-2, 3)[:, None, None])
    dark = stack.truth_all.mean(axis=-1) < 90
    nearest, farthest = (
        np.take_along_axis(error, pick(defocus, axis=0)[None], axis=0)[0][dark].mean()
        for pick in (np.argmin, np.argmax)
    )
    assert dark.sum() > 1000
    assert nearest < 0.3 * farthest
