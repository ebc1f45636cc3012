"""Liu's network as a fusion method: from a model file, for any number of planes."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from test_guided import guided

from napari_focusfuse.fusion import liu
from napari_focusfuse.fusion.catalogue import _BEYOND_LIU, available_methods, load_method
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.model_card import ModelCard, ModelError
from napari_focusfuse.models.liu import LiuClassifier, LiuConfig
from napari_focusfuse.models.selection import GREY
from napari_focusfuse.weights import save_model
from textured_slide import texture


def stack_of(count, height=48, width=64):
    planes = [texture(height, width, seed) for seed in range(count)]
    return np.stack(planes).astype(np.float32) / 255


def saved(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network = LiuClassifier(LiuConfig(width=4))
    # Random weights that decide, now for the one plane and now for the other.
    torch.nn.init.normal_(network.classify.weight, std=30.0)
    with torch.no_grad():
        logits = network(torch.from_numpy(stack_of(2)[None, ..., 1]))
        network.classify.bias -= logits.mean(dim=(0, 2, 3))
    card = ModelCard("liu-cnn", "CNN after Liu", "liu", {"width": 4}, (0,), 19, 2, None, None)
    save_model(path, network, card)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("liu") / "best.safetensors")


def majority(chosen, count):
    """Return, for each pixel, which plane most of 17 x 17 px name, the picture mirrored outside."""
    padded = np.pad(chosen, 8, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (17, 17))
    return np.argmax([(windows == plane).sum(axis=(2, 3)) for plane in range(count)], axis=0)


def by_hand(network, planes):
    """Fuse (Z, Y, X, 3) planes: patch by patch, pair by pair."""
    count, height, width = planes.shape[:3]
    greys = torch.from_numpy((planes @ np.array(GREY, np.float32))[:, None])
    wins = np.zeros((count, height, width))
    for pair in combinations(range(count), 2):
        with torch.no_grad():
            logits = network(torch.cat([greys[i] for i in pair])[None])
        scores = logits.softmax(dim=1)[0, 0].numpy()
        total, held = np.zeros((height, width)), np.zeros((height, width))
        for row, column in product(*map(range, scores.shape)):
            patch = np.s_[2 * row : 2 * row + 16, 2 * column : 2 * column + 16]
            total[patch] += scores[row, column]
            held[patch] += 1
        for plane, share in zip(pair, (total / held, 1 - total / held), strict=True):
            wins[plane] += share
    voted = majority(wins.argmax(axis=0), count)
    sharpest = (voted == np.arange(count)[:, None, None]).astype(float)
    guide = (planes * sharpest[..., None]).sum(axis=0) @ np.array(GREY)
    weights = np.array([np.clip(guided(one, guide, 8, 0.1), 0, 1) for one in sharpest])
    weights /= weights.sum(axis=0)
    return (planes * weights[..., None]).sum(axis=0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_is_the_rule_worked_out_patch_by_patch(file, count):
    method = load_method(str(file), "cpu")
    planes = stack_of(count)
    fused = method(planes[None])[0]
    np.testing.assert_allclose(fused, by_hand(method._network, planes), atol=2e-4)
    if count > 1:
        taken = [np.abs(fused - plane).mean() for plane in planes]
        assert min(taken) > 1e-3  # no plane is taken everywhere: the test shows something


def test_every_pair_of_planes_shares_one_point(file):
    method, planes = load_method(str(file), "cpu"), stack_of(4)
    with torch.no_grad():
        wins = method.wins(torch.from_numpy(planes[..., :1]).movedim(-1, 1))
    np.testing.assert_allclose(wins.sum(dim=0), 6, atol=1e-5)
    assert wins.min() >= 0


def test_a_model_file_is_a_method_for_any_number_of_planes_and_is_not_shipped(file):
    method = load_method(str(file), "cpu")
    assert (method.info.kind, method.info.plane_offsets) == ("selection", None)
    assert _BEYOND_LIU == liu.BEYOND
    assert "liu-cnn" not in {info.name for info in available_methods()}


def test_no_colour_leaves_the_span_of_its_sources(file):
    planes = stack_of(3)
    fused = load_method(str(file), "cpu").compute(planes[None])[0]
    assert (fused >= planes.min(axis=0)).all()
    assert (fused <= planes.max(axis=0)).all()


def test_it_looks_no_further_than_it_says(file):
    """The choice swallows the probe's NaN: what comes before it is measured, the rest is known."""
    method = load_method(str(file), "cpu")

    def wins(stacks):
        with torch.no_grad():
            return method.wins(torch.from_numpy(stacks[0, ..., :1]).movedim(-1, 1))[:, 0].numpy()

    def compute(stacks):
        return np.moveaxis(wins(stacks), 0, -1)[None]

    after = liu.ISLAND + 2 * liu.RADIUS
    assert measure_reach(compute, method.info, planes=2) + after == method.info.halo
    assert measure_reach(method.compute, method.info, planes=2) <= method.info.halo


def test_a_file_that_changed_since_it_was_chosen_is_refused(tmp_path):
    path = saved(tmp_path / "best.safetensors")
    info = load_method(str(path), "cpu").info
    saved(path, seed=1)
    with pytest.raises(ModelError, match="has changed since it was chosen"):
        load_method(info, "cpu")
