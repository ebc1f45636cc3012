import csv
import math

import numpy as np
import pytest

from napari_focusfuse import metrics
from napari_focusfuse.comparison import (
    MIN_PEAK,
    ComparisonError,
    ComparisonOutputError,
    Picture,
    compare,
    crop_to_common,
    register,
)


def texture(height, width, seed):
    """Return blobs of several sizes, as a smear has: (Y, X, 3) uint8."""
    rng = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(rng.normal(size=(3, height, width)))
    blobs = np.fft.irfft2(spectrum / (0.01 + frequencies) ** 1.5, (height, width))
    blobs = 170 + 40 * blobs / blobs.std()
    return np.clip(np.rint(np.moveaxis(blobs, 0, 2)), 0, 255).astype(np.uint8)


def blurred(image, radius):
    """Return a box-blurred copy with another tone and noise."""
    cells = 2 * radius + 1
    padded = np.pad(image.astype(float), ((radius, radius), (radius, radius), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (cells, cells), axis=(0, 1))
    noise = np.random.default_rng(99).normal(0, 3, image.shape)
    return np.clip(0.9 * windows.mean(axis=(-1, -2)) + 10 + noise, 0, 255).astype(np.uint8)


def mean_2x2(image):
    return np.round(image.reshape(len(image) // 2, 2, -1, 2, 3).mean(axis=(1, 3)) + 1e-9)


SCENE = texture(300, 340, seed=0)


@pytest.mark.parametrize("shift", [(0, 0), (60, -45), (-50, 40), (-25, -30)])
def test_register_finds_the_shift(shift):
    y, x = shift
    image = SCENE[100:260, 110:240]
    reference = SCENE[100 + y : 220 + y, 110 + x : 240 + x]
    found = register(image, blurred(reference, 1))
    assert found.shift == shift
    assert found.peak > MIN_PEAK


def test_register_finds_a_detail_in_a_whole_and_a_whole_around_a_detail():
    detail = SCENE[150:250, 40:160]
    assert register(SCENE, detail).shift == (150, 40)
    assert register(detail, SCENE).shift == (-150, -40)


def test_register_large_pictures_in_two_steps(monkeypatch):
    monkeypatch.setattr("napari_focusfuse.registration._REGISTRATION_PIXELS", 5000)
    monkeypatch.setattr("napari_focusfuse.registration._REFINEMENT_SIDE", 64)
    found = register(SCENE[:250, :301], blurred(SCENE[37:, 61:], 1))
    assert found.shift == (37, 61)


@pytest.mark.parametrize("seed", range(1, 6))
def test_unrelated_pictures_stay_below_the_bar(seed):
    found = register(SCENE[:160, :160], texture(160, 160, seed))
    assert found.peak < 0.6 * MIN_PEAK


def test_flat_pictures_have_no_peak():
    assert register(np.full((40, 50, 3), 211, np.uint8), SCENE[:40, :50]).peak == 0


def test_compare_refuses_what_it_cannot_find():
    image = Picture(SCENE[:160, :160], "fused")
    reference = Picture(texture(160, 160, seed=7), "scan.png")
    with pytest.raises(
        ComparisonError, match=r"scan.png was not found in fused.*by hand"
    ) as caught:
        compare(image, reference)
    assert f"{MIN_PEAK:.0f} is needed" in str(caught.value)


def test_compare_by_correlation_scores_the_common_part():
    image, reference = SCENE[:200, :200], blurred(SCENE[40:260, 30:220], 1)
    result = compare(Picture(image, "a"), Picture(reference, "b"))
    assert result.shift == (40, 30)
    assert result.peak == register(image, reference).peak
    assert result.scores == metrics.score(image[40:200, 30:200], reference[:160, :170])
    assert (result.shape, result.pixels) == ((160, 170), 160 * 170)
    assert (result.mpp, result.level) == (None, None)
    assert result.origin == (40.0, 30.0)


def test_compare_by_hand():
    image, reference = SCENE[:60, :60], texture(60, 60, seed=8)
    result = compare(Picture(image), Picture(reference), shift=(-20, 5))
    assert result.scores == metrics.score(image[:40, 5:], reference[20:, :55])
    assert (result.shift, result.peak) == ((-20, 5), None)


def test_the_difference_is_signed():
    dark, bright = np.full((16, 16, 3), 10, np.uint8), np.full((16, 16, 3), 250, np.uint8)
    result = compare(Picture(dark), Picture(bright), shift=(0, 0))
    assert result.difference.dtype == np.int16
    assert result.difference.shape == (16, 16, 3)
    assert (result.difference == -240).all()


def test_compare_by_position():
    image = Picture(SCENE[50:150, 60:180], "a", (0.25, 0.25), (50 * 0.25, 60 * 0.25), level=0)
    reference = Picture(SCENE[90:290, 20:160], "b", (0.25, 0.25), (90 * 0.25, 20 * 0.25), level=0)
    result = compare(image, reference)
    assert result.shape == (60, 100)
    assert not result.difference.any()
    assert result.shift == (40, -40)
    assert result.peak is None
    assert result.origin == (90 * 0.25, 60 * 0.25)
    assert (result.mpp, result.level) == ((0.25, 0.25), 0)


@pytest.mark.parametrize("image_is_finer", [True, False])
def test_the_finer_is_averaged_onto_the_pixels_of_the_coarser(image_is_finer):
    # The fine picture begins at level-0 pixel (31, 41): its first whole 2x2 cell is at (32, 42).
    fine = Picture(SCENE[31:231, 41:201], "fine", (0.25, 0.25), (31 * 0.25, 41 * 0.25), level=0)
    half = mean_2x2(SCENE).astype(np.uint8)
    coarse = Picture(half[10:100, 12:140], "coarse", (0.5, 0.5), (10 * 0.5, 12 * 0.5), level=1)
    pair = (fine, coarse) if image_is_finer else (coarse, fine)
    first, second = crop_to_common(*pair)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.pixels, half[16:100, 21:100])
    assert first.origin == second.origin == (16 * 0.5, 21 * 0.5)
    result = compare(*pair)
    assert result.scores["PSNR"] == math.inf
    assert (result.mpp, result.level) == ((0.5, 0.5), 1)
    assert result.pixels == 84 * 79


def test_cells_of_a_broken_number_of_pixels_are_averaged_by_area():
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[:, None], 40, axis=1)
    ramp = np.repeat(ramp[..., None], 3, axis=2)
    fine = Picture(ramp, "fine", (0.2, 0.5), (0.0, 0.0))
    coarse = Picture(np.zeros((20, 40, 3), np.uint8), "coarse", (0.5, 0.5), (0.0, 0.0))
    first, _ = crop_to_common(fine, coarse)
    # A cell covers 2.5 pixels: 0, 4 and half of 8; then half of 8, 12 and 16; ...
    assert first.pixels[:3, 0, 0].tolist() == [3, 13, 23]
    assert first.pixels.shape == (20, 40, 3)


def test_a_reference_without_position_is_scaled_by_its_mpp():
    image = Picture(mean_2x2(SCENE).astype(np.uint8), "a", (0.5, 0.5), (100.0, 200.0), level=1)
    reference = Picture(SCENE[40:240, 60:280], "b", (0.25, 0.25))
    result = compare(image, reference)
    assert result.shift == (20, 30)
    assert result.scores["PSNR"] == math.inf
    assert result.origin == (110.0, 215.0)
    assert (result.mpp, result.level) == ((0.5, 0.5), 1)


def test_nearly_equal_scales_are_not_resampled():
    image = Picture(SCENE, "a", (0.25, 0.25), (0.0, 0.0))
    reference = Picture(SCENE, "b", (0.2501, 0.2501), (0.05, -0.05))
    assert compare(image, reference).scores["PSNR"] == math.inf


def test_no_common_ground():
    image = Picture(SCENE[:40, :40], "a", (1.0, 1.0), (0.0, 0.0))
    for origin in ((30.0, 0.0), (500.0, 0.0), (0.0, -500.0)):
        with pytest.raises(ComparisonError, match="in common"):
            compare(image, Picture(SCENE[:40, :40], "b", (1.0, 1.0), origin))


def test_pictures_of_scales_that_cannot_meet():
    with pytest.raises(ComparisonError, match="smaller than a pixel"):
        compare(Picture(SCENE, "a", (0.25, 0.25)), Picture(SCENE, "b", (2500.0, 2500.0)))


def test_cropping_needs_positions():
    with pytest.raises(ComparisonError, match="b does not say where it lies"):
        crop_to_common(Picture(SCENE, "a", (1.0, 1.0), (0.0, 0.0)), Picture(SCENE, "b"))


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros((20, 20), np.uint8),),
        (np.zeros((20, 20, 3), np.uint16),),
        (SCENE, "x", (0.0, 1.0)),
        (SCENE, "x", (math.nan, 1.0)),
        (SCENE, "x", (1.0, 1.0), (math.inf, 0.0)),
    ],
)
def test_impossible_pictures(arguments):
    with pytest.raises(ComparisonError):
        Picture(*arguments)


def test_csv_names_the_variant_of_every_score(tmp_path):
    image = Picture(SCENE[:80, :90], "fused, one plane", (0.25, 0.25), (0.0, 0.0), level=2)
    result = compare(image, Picture(blurred(SCENE[:80, :90], 2), "scanner"), shift=(0, 0))
    path = tmp_path / "scores.csv"
    result.to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["image"] == "fused, one plane"
    for name in metrics.VARIANTS:
        assert float(row[name]) == result.scores[name]
    assert (row["pixels"], row["level"], row["mpp y"]) == (str(80 * 90), "2", "0.25")
    assert row["peak"] == ""


def test_csv_that_cannot_be_written(tmp_path):
    result = compare(Picture(SCENE), Picture(SCENE), shift=(0, 0))
    with pytest.raises(ComparisonOutputError, match="choose another folder") as caught:
        result.to_csv(tmp_path / "absent" / "scores.csv")
    assert caught.value.exit_code == 5
