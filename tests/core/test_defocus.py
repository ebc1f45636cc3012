"""The forward model against published optics and against itself."""

import numpy as np
import pytest

from napari_focusfuse.defocus import (
    Camera,
    Optics,
    Sheet,
    Specimen,
    blur_labels,
    blurred_beyond_um,
    degrade,
    density_of,
    encircled_radius_px,
    equivalent_sigma_px,
    expose,
    gaussian_blur,
    psf,
    random_field,
    render,
    transfer_profile,
    uniform_height,
)
from napari_focusfuse.pixels import to_uint8

LAYER_UM = 2.7
# NA 0.8, n 1.515, 0.55 um, 0.243 um/px: radii (px) that hold half and four fifths of the light.
RADII = {0: (0.8, 1.3), 0.5: (1.9, 3.4), 1: (3.8, 5.9), 2: (8.4, 11.3), 3: (13.1, 16.9)}
# |MTF| at half the Nyquist frequency of 0.243 um pixels, same optics.
MTF = {0: 0.56, 0.5: 0.11, 1: 0.02}


@pytest.mark.parametrize("layers", RADII)
def test_the_light_of_a_point_spreads_as_tabulated(layers: float) -> None:
    for fraction, expected in zip((0.5, 0.8), RADII[layers], strict=True):
        found = encircled_radius_px(Optics(), layers * LAYER_UM, fraction)
        assert abs(found - expected) <= max(0.05 * expected, 0.1)


@pytest.mark.parametrize("layers", MTF)
def test_contrast_at_half_nyquist_is_as_tabulated(layers: float) -> None:
    frequency, transfer = transfer_profile(Optics(), 0.55, layers * LAYER_UM)
    found = abs(np.interp(1 / (4 * 0.243), frequency, transfer))
    assert found == pytest.approx(MTF[layers], abs=0.02)


def test_in_focus_transfer_is_the_textbook_formula_of_a_clear_pupil() -> None:
    frequency, transfer = transfer_profile(Optics(na=0.7), 0.55, 0.0)
    s = np.minimum(frequency * 0.55 / (2 * 0.7), 1)
    expected = 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s**2))  # Goodman, equation 6-31
    np.testing.assert_allclose(transfer, expected, atol=0.01)


def test_a_point_spread_function_keeps_the_light_and_its_centre() -> None:
    spread = psf(Optics(), 0.55, 1.35, 0.1, 128)
    assert spread.sum() == pytest.approx(1)
    assert (spread >= 0).all()
    centre = [float((np.indices(spread.shape)[axis] * spread).sum()) for axis in (0, 1)]
    assert centre == pytest.approx([64, 64], abs=0.05)


def test_spherical_aberration_makes_the_two_sides_of_focus_unequal() -> None:
    symmetric = [equivalent_sigma_px(Optics(), z) for z in (-2.7, 2.7)]
    aberrated = [equivalent_sigma_px(Optics(spherical_waves=0.5), z) for z in (-2.7, 2.7)]
    assert symmetric[0] == pytest.approx(symmetric[1], rel=1e-6)
    assert abs(aberrated[0] - aberrated[1]) > 0.3


def test_blur_is_labelled_beyond_one_pixel_of_equivalent_sigma() -> None:
    below, above = blurred_beyond_um(Optics())
    assert equivalent_sigma_px(Optics(), above) == pytest.approx(1.0, abs=0.05)
    assert below == pytest.approx(-above, abs=0.01)
    heights = np.array([[below - 0.1, 0.0, above + 0.1]], dtype=np.float32)
    assert blur_labels(Optics(), heights, 0.0).tolist() == [[True, False, True]]


def test_a_flat_specimen_is_sharpest_in_its_own_plane_and_equals_the_truth_there() -> None:
    rng = np.random.default_rng(0)
    image = to_uint8(0.8 + 0.1 * random_field((96, 96), 2.0, rng)[..., None].repeat(3, axis=2))
    specimen = Specimen.of_sheet(density_of(image), np.full((96, 96), 2.7, dtype=np.float32))
    stack, truth = render(specimen, Optics(), [0.0, 2.7, 5.4])
    np.testing.assert_allclose(stack[1], truth, atol=1e-5)
    assert stack[1].std() > 2 * stack[0].std()
    assert stack[0].mean() == pytest.approx(
        truth.mean(), abs=2e-3
    )  # blur moves light, it loses none


def test_overlapping_sheets_are_in_focus_in_different_planes() -> None:
    rng = np.random.default_rng(1)
    grain = np.maximum(0.3 + 0.2 * random_field((64, 64), 1.5, rng), 0)[..., None].repeat(3, axis=2)
    heights = np.zeros((64, 64), dtype=np.float32)
    low, high = Sheet(grain, heights - 2.7), Sheet(grain[::-1], heights + 2.7)
    (low_plane, high_plane), _ = render(Specimen((64, 64), (low, high)), Optics(), [-2.7, 2.7])

    def correlation(image: np.ndarray, sheet: Sheet) -> float:
        fine = sheet.density[..., 1] - gaussian_blur(sheet.density, 3.0)[..., 1]
        return float(-np.corrcoef(image[..., 1].ravel(), fine.ravel())[0, 1])

    assert correlation(low_plane, low) > 2 * correlation(low_plane, high)
    assert correlation(high_plane, high) > 2 * correlation(high_plane, low)


def test_noise_is_shot_noise_of_the_camera() -> None:
    rng = np.random.default_rng(2)
    light = np.full((200, 200, 3), 0.5, dtype=np.float32)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    image = expose(light, noise, Camera(electrons=1000, read_electrons=0, jpeg_quality=None))
    expected = 255 * np.sqrt(0.5 * 1000) / 1000
    assert image.std() == pytest.approx(expected, rel=0.03)


def test_heights_are_uniform_and_smooth() -> None:
    heights = uniform_height(
        (300, 300), 8.0, np.random.default_rng(3), mpp=0.243, correlation_um=15
    )
    histogram = np.histogram(heights, bins=8, range=(-8, 8))[0]
    assert histogram.min() == pytest.approx(histogram.max(), rel=0.01)
    assert np.abs(np.diff(heights, axis=0)).max() < 1.0


def test_degradation_blurs_under_its_mask_only() -> None:
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    blurred, mask = degrade(image, rng)
    change = np.abs(blurred.astype(int) - image).mean(axis=2)
    assert 0 < mask.mean() < 1
    assert change[mask].mean() > 10 * max(change[~mask].mean(), 0.1)
