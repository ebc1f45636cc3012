"""Forster's fusion against the same rule on PyWavelets' convolutions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import pywt
import torch

from napari_focusfuse.fusion.classical import COMPLEX_WAVELET
from napari_focusfuse.fusion.complex_wavelet import COMPLEX_6, ComplexWaveletMethod
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.models.selection import GREY
from textured_slide import texture

METHOD = ComplexWaveletMethod(COMPLEX_WAVELET)
LEVELS = 4


def test_the_filter_is_orthonormal_symmetric_and_blind_to_parabolas():
    low, high = np.array(COMPLEX_6.low), np.array(COMPLEX_6.high)
    assert low.sum() == pytest.approx(np.sqrt(2))
    for shift in (0, 2, 4):
        wanted = float(shift == 0)
        for one, other, product in ((low, low, wanted), (high, high, wanted), (low, high, 0)):
            moved = np.pad(other, (shift, 0))[: len(one)]
            assert np.vdot(moved, one) == pytest.approx(product, abs=1e-15)
    np.testing.assert_array_equal(low, low[::-1])
    assert np.abs(low.imag).max() > 0.05
    for power in range(3):
        assert np.sum(high * np.arange(6.0) ** power) == pytest.approx(0, abs=1e-13)


def halves(image, axis):
    """Filter and halve one axis, the real and the imaginary filter one after the other."""
    low, high = np.array(COMPLEX_6.low), np.array(COMPLEX_6.high)
    found = []
    for part in (np.real, np.imag):
        dec = [list(part(taps[::-1])) for taps in (low, high)]
        wavelet = pywt.Wavelet("part", [*dec, *dec])
        found.append(pywt.dwt(image, wavelet, mode="symmetric", axis=axis))
    return [real + 1j * imaginary for real, imaginary in zip(*found, strict=True)]


def joined(low_band, high_band, axis):
    total = 0
    for part, factor in ((np.real, 1), (np.imag, -1j)):
        rec = [list(part(np.array(taps))) for taps in (COMPLEX_6.low, COMPLEX_6.high)]
        wavelet = pywt.Wavelet("part", [*rec, *rec])
        total += factor * pywt.idwt(low_band, high_band, wavelet, mode="symmetric", axis=axis)
    return total


def decompose(image):
    details = []
    for _ in range(LEVELS):
        low, high = halves(image, 0)
        (image, along_x), (along_y, both) = halves(low, 1), halves(high, 1)
        details.append(np.array([along_y, along_x, both]))
    return image, details


def chosen(bands):
    """(Y, X) planes for (Z, 3, Y, X) coefficients: two of three bands, or the strongest; voted."""
    modulus = np.where(np.abs(bands) < 1e-5, 0, np.abs(bands))
    first, strength = modulus.argmax(axis=0), modulus.max(axis=0)
    agreed = np.empty(first.shape[1:], int)
    for at in np.ndindex(agreed.shape):
        plane, votes = Counter(first[(slice(None), *at)]).most_common(1)[0]
        agreed[at] = plane if votes > 1 else first[strength[(slice(None), *at)].argmax()][at]
    voted = agreed.copy()
    for y, x in np.ndindex(agreed.shape):
        near = agreed[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        votes = np.bincount(near.ravel(), minlength=len(bands)).astype(float)
        votes[agreed[y, x]] += 0.5
        voted[y, x] = votes.argmax()
    return voted


def by_pywavelets(planes):
    """Fuse (Z, Y, X, 3) planes to their grey and to their nearest colours."""
    greys = planes.astype(np.float64) @ np.array(GREY)
    decomposed = [decompose(plane) for plane in greys]
    fused = np.mean([approximation for approximation, _ in decomposed], axis=0)
    for level in reversed(range(LEVELS)):
        bands = np.array([details[level] for _, details in decomposed])
        picked = np.take_along_axis(bands, chosen(bands)[None, None], axis=0)[0]
        fused = fused[: picked.shape[1], : picked.shape[2]]
        low = joined(fused, picked[1], axis=1)
        high = joined(picked[0], picked[2], axis=1)
        fused = joined(low, high, axis=0)
    nearest = np.abs(greys - fused.real).argmin(axis=0)[None, ..., None]
    return fused.real, np.take_along_axis(planes, nearest, axis=0)[0]


@pytest.mark.parametrize(("count", "shape"), [(1, (48, 64)), (2, (48, 80)), (5, (64, 48))])
def test_it_is_the_rule_on_pywavelets_convolutions(count, shape):
    planes = np.stack([texture(*shape, seed) for seed in range(count)]).astype(np.float32) / 255
    weights = torch.tensor(GREY).view(1, 3, 1, 1)
    greys = (torch.from_numpy(planes).movedim(-1, 1) * weights).sum(dim=1, keepdim=True)
    wanted_grey, wanted = by_pywavelets(planes)
    np.testing.assert_allclose(METHOD.merge_grey(greys)[0, 0], wanted_grey, atol=1e-5)
    # Where two planes are equally near, rounding decides.
    assert (np.abs(METHOD(planes[None])[0] - wanted).max(axis=-1) > 1e-6).mean() < 1e-3


def test_every_colour_is_one_that_a_plane_holds():
    planes = np.stack([texture(64, 80, seed) for seed in range(4)]).astype(np.float32) / 255
    fused = METHOD(planes[None])
    assert (fused == planes).all(axis=-1).any(axis=0).all()


def test_it_looks_no_further_than_it_says():
    def compute(stacks):  # the grey result: the choice of a colour hides small differences
        greys = torch.from_numpy(stacks[0, ..., :1]).movedim(-1, 1)
        return METHOD.merge_grey(greys).movedim(1, -1).numpy()

    assert measure_reach(compute, COMPLEX_WAVELET, planes=2) == COMPLEX_WAVELET.halo
