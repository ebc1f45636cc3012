"""The small networks: their cost, their reach, and that they do nothing by default."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_focusfuse.models.selection import decision_map, select
from napari_focusfuse.models.small_blur import SmallBlurConfig, SmallBlurModel
from napari_focusfuse.models.swift import SwiftConfig, SwiftGenerator

SIDE = 64


def giga_macs_per_megapixel(network: nn.Module, channels: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, channels, SIDE, SIDE))
    return float(counter.get_total_flops()) / 2 / SIDE**2 / 1e3


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("planes", [1, 3])
def test_swift_is_cheap_and_small(planes: int) -> None:
    network = SwiftGenerator(SwiftConfig(planes=planes))
    assert 40 < giga_macs_per_megapixel(network, 3 * planes) <= 65
    assert parameters(network) <= 2e6
    assert network.reach <= 128


def test_the_small_blur_model_is_cheap() -> None:
    network = SmallBlurModel(SmallBlurConfig())
    assert 2 < giga_macs_per_megapixel(network, 3) <= 10
    assert parameters(network) <= 1e5
    assert network.reach <= 128


@pytest.mark.parametrize("planes", [1, 3])
def test_every_parameter_of_swift_learns(planes: int) -> None:
    network = SwiftGenerator(SwiftConfig(planes=planes))
    # The last convolution starts at zero, which hides the others from the first gradient.
    nn.init.normal_(network.tail.weight, std=0.01)
    network(torch.rand(1, 3 * planes, SIDE, SIDE)).square().sum().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_every_parameter_of_the_small_blur_model_learns() -> None:
    network = SmallBlurModel(SmallBlurConfig())
    network(torch.rand(1, 3, SIDE, SIDE)).square().sum().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_an_untrained_swift_returns_its_only_plane() -> None:
    plane = torch.rand(1, 3, SIDE, SIDE)
    torch.testing.assert_close(SwiftGenerator(SwiftConfig(planes=1))(plane), plane)


def test_an_untrained_swift_of_three_planes_returns_nearly_the_selection() -> None:
    stacked = torch.rand(1, 9, SIDE, SIDE)
    network = SwiftGenerator(SwiftConfig(planes=3))
    planes = stacked.unflatten(1, (3, 3))
    selected = select(planes, decision_map(planes, network.selection))
    # Each plane left out keeps a hundredth of the blend.
    assert float((network(stacked) - selected).abs().max().detach()) < 0.03


def test_planes_that_tie_share_the_pixel() -> None:
    plane = torch.rand(1, 1, 3, SIDE, SIDE)
    weights = decision_map(
        plane.expand(1, 3, 3, SIDE, SIDE), SwiftGenerator(SwiftConfig()).selection
    )
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))
