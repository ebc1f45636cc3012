from __future__ import annotations

import numpy as np

from napari_focusfuse.fusion.argmax import ArgmaxMethod
from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.models.selection import SelectionConfig
from textured_slide import blurred, texture

METHOD = ArgmaxMethod(ARGMAX)


def as_batch(*planes):
    return np.stack(planes)[None].astype(np.float32) / 255


def test_the_sharp_half_of_each_plane_is_picked():
    sharp = texture(96, 128)
    soft = blurred(sharp)
    left, right = sharp.copy(), sharp.copy()
    left[:, 64:], right[:, :64] = soft[:, 64:], soft[:, :64]
    fused = METHOD(as_batch(left, right))[0] * 255
    error = np.abs(fused - sharp)
    away_from_the_border = np.abs(np.arange(128) - 63.5) > SelectionConfig().reach
    assert error[:, away_from_the_border].max() < 1e-3
    assert error.mean() < 0.1 * np.abs(soft.astype(float) - sharp).mean()


def test_it_looks_no_further_than_it_says():
    assert SelectionConfig().reach == ARGMAX.halo
    assert measure_reach(METHOD.compute, ARGMAX) == ARGMAX.halo


def test_its_settings_are_those_of_the_selection():
    config = SelectionConfig()
    assert ARGMAX.settings == {
        "energy_sigma": config.energy_sigma,
        "decision_sigma": config.decision_sigma,
    }
