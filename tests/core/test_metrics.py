import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import normalized_mutual_info_score

from napari_focusfuse import metrics


def _pair(shape=(61, 83, 3), noise=12.0, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape[:2])
    base = 140 + 80 * np.sin(rows / 7) * np.cos(columns / 9)
    if len(shape) == 3:
        base = base[..., None] + np.array([-20.0, 0.0, 25.0])
    image = np.clip(np.rint(base + rng.normal(0, noise, shape)), 0, 255).astype(np.uint8)
    reference = np.clip(np.rint(base), 0, 255).astype(np.uint8)
    return image, reference


@pytest.fixture(params=[(61, 83, 3), (40, 33)], ids=["rgb", "grey"])
def pair(request):
    return _pair(request.param)


def test_grey_weights_and_rounding():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [1, 1, 1]]])
    # 76.245, 149.685, 29.07
    assert metrics.grey(pixels.astype(np.uint8)).tolist() == [[76, 150, 29, 255, 1]]


def test_grey_equals_the_rounded_luma_for_random_colours():
    colours = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    exact = colours @ np.array([299, 587, 114])
    expected = np.array([(int(v) + 500) // 1000 for v in exact.ravel()])
    assert np.array_equal(metrics.grey(colours).ravel(), expected)


def test_ssim_paper_is_scikit_images_gaussian_form(pair):
    image, reference = map(metrics.grey, pair)
    expected, expected_map = structural_similarity(
        image,
        reference,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert metrics.ssim_paper(*pair) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(metrics.ssim_map(*pair), expected_map, atol=1e-9)


def test_ssim_sk_is_scikit_images_default(pair):
    expected, expected_map = structural_similarity(
        *map(metrics.grey, pair), data_range=255, full=True
    )
    assert metrics.ssim_sk(*pair) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(metrics.ssim_map(*pair, "uniform"), expected_map, atol=1e-9)


def test_ssim_rgb_is_the_mean_over_channels():
    image, reference = _pair()
    expected = structural_similarity(
        image,
        reference,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1,
    )
    assert metrics.ssim_rgb(image, reference) == pytest.approx(expected, abs=1e-9)


def test_ssim_global_is_formula_7(pair):
    x, y = (metrics.grey(a).astype(np.float64).ravel() for a in pair)
    covariance = np.cov(x, y, bias=True)
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    assert metrics.ssim_global(*pair) == pytest.approx(expected, abs=1e-12)


def test_cc_is_pearsons(pair):
    x, y = (metrics.grey(a).ravel() for a in pair)
    assert metrics.cc(*pair) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


def test_q_mi_is_scikit_learns(pair):
    x, y = (metrics.grey(a).ravel() for a in pair)
    assert metrics.q_mi(*pair) == pytest.approx(normalized_mutual_info_score(x, y), abs=1e-9)


def test_psnr_is_scikit_images(pair):
    expected = peak_signal_noise_ratio(pair[1], pair[0], data_range=255)
    assert metrics.psnr(*pair) == pytest.approx(expected, abs=1e-9)


def test_score_names_every_variant_in_order():
    image, reference = _pair()
    scores = metrics.score(image, reference)
    assert list(scores) == list(metrics.VARIANTS)
    assert list(scores) == [
        "SSIM-paper",
        "SSIM-sk",
        "SSIM-rgb",
        "SSIM-global",
        "CC",
        "Q_MI",
        "PSNR",
    ]
    assert scores["SSIM-sk"] == metrics.ssim_sk(image, reference)
    assert scores["Q_MI"] == metrics.q_mi(image, reference)


def test_equal_images_score_best():
    image, _ = _pair()
    scores = metrics.score(image, image)
    assert scores.pop("PSNR") == float("inf")
    assert all(value == pytest.approx(1, abs=1e-12) for value in scores.values())


def test_border_drops_the_outer_part_of_the_map_and_of_the_image():
    image, reference = _pair()
    spoiled = image.copy()
    spoiled[:4] = 0
    spoiled[:, -4:] = 255
    assert metrics.score(spoiled, reference, border=9) == metrics.score(image, reference, border=9)
    similarity = metrics.ssim_map(image, reference)
    assert metrics.ssim_paper(image, reference, 9) == pytest.approx(similarity[9:-9, 9:-9].mean())
    cropped = image[9:-9, 9:-9], reference[9:-9, 9:-9]
    assert metrics.q_mi(image, reference, 9) == metrics.q_mi(*cropped)
    assert metrics.psnr(image, reference, 9) == metrics.psnr(*cropped)


def test_flat_images():
    flat = np.full((20, 20), 200, dtype=np.uint8)
    other = np.full((20, 20), 10, dtype=np.uint8)
    assert np.isnan(metrics.cc(flat, other))
    assert metrics.q_mi(flat, other) == 1.0 == normalized_mutual_info_score(flat[0], other[0])
    assert 0 < metrics.ssim_paper(flat, other) < 0.2


@pytest.mark.parametrize(
    ("image", "reference", "border", "message"),
    [
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), 0, "crop both"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3), np.uint8), 0, "crop both"),
        (np.zeros((20, 20), np.float32), np.zeros((20, 20), np.uint8), 0, "convert it to uint8"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint16), 0, "convert it to uint8"),
        (np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 4), np.uint8), 0, "RGB"),
        (np.zeros((10, 30), np.uint8), np.zeros((10, 30), np.uint8), 0, "too small"),
        (np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8), 32, "too small"),
        (np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8), -1, "impossible"),
    ],
)
def test_refusals_are_one_sentence(image, reference, border, message):
    with pytest.raises(metrics.MetricError, match=message) as caught:
        metrics.score(image, reference, border)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
