"""The parts of an error: they add up, and each kind of change shows in its own."""

import numpy as np
import pytest

from napari_focusfuse.error_bands import band_errors, overshoot, split, tone_change

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(40, 200, (96, 112, 3), dtype=np.uint8)


def test_the_bands_add_up_to_the_difference() -> None:
    difference = RNG.normal(size=(80, 90)).astype(np.float32)
    assert np.allclose(sum(split(difference)), difference, atol=1e-5)


@pytest.mark.parametrize(("period", "band"), [(3, "fine"), (24, "middle"), (10_000, "coarse")])
def test_a_wave_shows_in_the_band_of_its_size(period: float, band: str) -> None:
    wave = 20 * np.cos(2 * np.pi * np.arange(112) / period)
    flat = np.full((96, 112, 3), 128, dtype=np.uint8)
    waved = np.rint(flat + wave[None, :, None]).astype(np.uint8)
    errors = band_errors(waved, flat, 16)
    assert max(errors, key=lambda name: errors[name]) == band
    assert errors[band] > 0.6 * np.sqrt(np.mean((waved - 128.0) ** 2))


def test_equal_pictures_have_no_error() -> None:
    assert set(band_errors(PICTURE, PICTURE).values()) == {0.0}
    assert tone_change(PICTURE, PICTURE) == (0.0, 0.0)
    assert overshoot(PICTURE, PICTURE) == 0


def test_a_change_of_light_is_a_change_of_tone_and_noise_is_none() -> None:
    largest, rms = tone_change(PICTURE + np.uint8(3), PICTURE)
    assert largest == pytest.approx(3, abs=1e-3)
    assert rms == pytest.approx(3, abs=1e-3)
    noisy = PICTURE + RNG.integers(0, 2, PICTURE.shape, dtype=np.uint8) * np.uint8(2)
    assert tone_change(noisy, PICTURE)[1] == pytest.approx(1, abs=0.1)  # the noise's mean


def test_what_leaves_the_range_around_it_is_counted_by_how_far() -> None:
    truth = np.full((20, 20, 3), 100, dtype=np.uint8)
    truth[10, 10] = 120
    image = truth.copy()
    image[12, 12] = 120  # two pixels from where the truth has it
    assert overshoot(image, truth) == 0
    image[13, 10] = 110
    image[0, 0] = 95
    assert overshoot(image, truth) == pytest.approx((10 + 5) / 400)
    assert overshoot(image, truth, 2) == pytest.approx(10 / 256)
