"""The small networks: their cost, their reach, and that they do nothing by default."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_focusfuse.models.selection import blur, decision_map, select
from napari_focusfuse.models.small_blur import SmallBlurConfig, SmallBlurModel
from napari_focusfuse.models.swift import (
    TONE_SIGMA_PX,
    ResidualBlock,
    SwiftConfig,
    SwiftGenerator,
    without_tone,
)

SIDE = 64


def awake(network: nn.Module) -> nn.Module:
    """Give values to what starts from nothing and would hide the rest."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.normal_(module.second.weight, std=0.05)
    if isinstance(network, SwiftGenerator):
        nn.init.normal_(network.tail.weight, std=0.02)
    return network


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
    network = awake(SwiftGenerator(SwiftConfig(planes=planes)))
    found = network(torch.rand(1, 3 * planes, SIDE, SIDE), torch.ones(1, planes))
    (found.fused.square().sum() + found.log_error.sum()).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_every_parameter_of_the_small_blur_model_learns() -> None:
    network = awake(SmallBlurModel(SmallBlurConfig()))
    network(torch.rand(1, 3, SIDE, SIDE)).square().sum().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_an_untrained_swift_returns_its_only_plane() -> None:
    plane = torch.rand(1, 3, SIDE, SIDE)
    torch.testing.assert_close(SwiftGenerator(SwiftConfig(planes=1))(plane).fused, plane)


def test_an_untrained_swift_of_three_planes_returns_nearly_the_selection() -> None:
    stacked = torch.rand(1, 9, SIDE, SIDE)
    network = SwiftGenerator(SwiftConfig(planes=3))
    planes = stacked.unflatten(1, (3, 3))
    selected = select(planes, decision_map(planes, network.selection))
    # Each plane left out keeps a hundredth of the blend.
    assert float((network(stacked).fused - selected).abs().max().detach()) < 0.03


def test_planes_that_tie_share_the_pixel() -> None:
    plane = torch.rand(1, 1, 3, SIDE, SIDE)
    weights = decision_map(
        plane.expand(1, 3, 3, SIDE, SIDE), SwiftGenerator(SwiftConfig()).selection
    )
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))


@torch.inference_mode()
@pytest.mark.parametrize("planes", [1, 3])
def test_the_sampling_is_heard(planes: int) -> None:
    network = awake(SwiftGenerator(SwiftConfig(planes=planes, width=8)))
    for told in (network.told_half, network.told_eighth):
        nn.init.normal_(told.linear.weight, std=0.5)
    stacked = torch.rand(1, 3 * planes, SIDE, SIDE)
    unknown = network(stacked).fused
    torch.testing.assert_close(network(stacked, torch.zeros(1, planes)).fused, unknown)
    assert float((network(stacked, torch.ones(1, planes)).fused - unknown).abs().max()) > 1e-3


def test_no_correction_has_tone() -> None:
    side = 256
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    # Light that falls off, and a broad stain: both are tone.
    tone = 0.5 + 0.3 * x / side + 0.2 * torch.exp(-((y - 128) ** 2 + (x - 128) ** 2) / 2 / 40**2)
    tone = tone.expand(1, 3, side, side)
    left = without_tone(tone)[..., 32:-32, 32:-32]
    assert float(left.abs().max()) < 0.012
    # At the edge between the two, a pattern of the very width, a part of either stays.
    detail = (torch.rand(1, 3, side, side) - 0.5) * 0.2
    kept = without_tone(detail)
    torch.testing.assert_close(kept, detail, atol=0.02, rtol=0)
    before, after = (blur(i, TONE_SIGMA_PX)[..., 32:-32, 32:-32].std() for i in (detail, kept))
    assert float(after) < 0.5 * float(before)


@torch.inference_mode()
def test_the_error_to_expect_is_bounded() -> None:
    network = SwiftGenerator(SwiftConfig(planes=1, width=8))
    for value in (-1e6, 1e6):
        nn.init.constant_(network.tail.bias, value)
        error = network(torch.rand(1, 3, SIDE, SIDE)).log_error.exp()
        assert 0.0005 < float(error.min()) <= float(error.max()) < 0.5


@torch.inference_mode()
@pytest.mark.parametrize("planes", [1, 3])
def test_nothing_comes_of_nothing(planes: int) -> None:
    network = awake(SwiftGenerator(SwiftConfig(planes=planes, width=8)))
    nn.init.normal_(network.tail.weight, std=1.0)
    flat = torch.full((1, 3 * planes, SIDE, SIDE), 0.6)
    torch.testing.assert_close(network(flat).fused, flat[:, :3])
    speck = flat.clone()
    speck[..., 20, 20] = 0.4
    found = network(speck)
    assert 0.3 - 1e-6 <= float(found.fused.min()) <= float(found.fused.max()) <= 0.7 + 1e-6
    assert float((found.fused - 0.6)[..., 48:, 48:].abs().max()) < 1e-6
    torch.testing.assert_close(found.fused - found.correction, speck[:, :3], atol=0.21, rtol=0)
