"""The discriminators: their sizes, their maps, and what each of them looks at."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from focusfuse_training.discriminators import build_discriminator
from napari_focusfuse.model_card import ModelError


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_code_preset_is_as_large_as_the_repositorys() -> None:
    network = build_discriminator("patch", 1, {"preset": "code"})
    assert round(parameters(network) / 1e6, 2) == 4.69
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 256, 256))
    assert round(counter.get_total_flops() / 2 / 256**2 / 1e3) == 94


@pytest.mark.parametrize(("preset", "convolutions"), [("paper", 8), ("code", 9)])
def test_the_presets_differ_in_their_number_of_convolutions(preset: str, convolutions: int) -> None:
    network = build_discriminator("patch", 1, {"preset": preset, "width": 4})
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == convolutions


@pytest.mark.parametrize("preset", ["paper", "code"])
@pytest.mark.parametrize(("side", "squares"), [(512, 8), (256, 4)])
def test_the_papers_map_has_a_logit_for_each_64_px(preset: str, side: int, squares: int) -> None:
    network = build_discriminator("patch", 1, {"preset": preset, "width": 4})
    assert network(torch.rand(1, 3, side, side)).shape == (1, 1, squares, squares)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("vgg", {}, "known are patch"),
        ("patch", {"preset": "fast"}, "discriminator 'patch' cannot be 'fast'; give paper or code"),
        ("patch", {"planes": 3}, "discriminator 'patch' has no setting 'planes'"),
        ("patch", {"width": 10**6}, "an integer from 4 to 256"),
    ],
)
def test_impossible_discriminators(name: str, config: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build_discriminator(name, 1, config)
