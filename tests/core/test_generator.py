import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from napari_focusfuse.models import build
from napari_focusfuse.models.generator import AddingBlock, ConcatenatingBlock

PRESETS = ("paper", "code")


def parameters_and_gmac_per_mpx(architecture, config, channels, side=256):
    """Count on the meta device: no memory, no arithmetic."""
    with torch.device("meta"):
        network = build(architecture, config).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            network(torch.empty(1, channels, side, side))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters / 1e6, counter.get_total_flops() / 2 / side**2 / 1e3


def nan_reach(network, channels, length):
    """Return how far a spoilt input pixel is seen in the output, in pixels."""
    network.eval()
    with torch.no_grad():
        strip = torch.rand(1, channels, network.multiple_of, length)
        strip[..., length // 2] = torch.nan
        spoilt = torch.isnan(network(strip)).any(dim=2)[0].any(dim=0).nonzero()[:, 0]
    return max(length // 2 - int(spoilt.min()), int(spoilt.max()) - length // 2)


@pytest.mark.parametrize(
    ("config", "channels", "parameters", "gmac"),
    [
        # Those of the authors' repository, counted there without the modules it never calls.
        ({"preset": "code"}, 4, 16.41, 1806),
        ({"preset": "code", "planes": 3}, 12, 16.45, 1847),
        ({"preset": "paper"}, 4, 12.17, 1486),
        ({"preset": "paper", "planes": 3}, 12, 12.21, 1527),
    ],
)
def test_cost_of_the_paper_size(config, channels, parameters, gmac):
    counted = parameters_and_gmac_per_mpx("generator", config, channels)
    assert counted == (pytest.approx(parameters, abs=0.005), pytest.approx(gmac, abs=0.6))


@pytest.mark.parametrize("preset", PRESETS)
def test_output_is_an_image_in_range(preset):
    network = build("generator", {"preset": preset, "planes": 3, "width": 4})
    fused = network(torch.rand(2, 12, 16, 40) * 50 - 25)
    assert fused.shape == (2, 3, 16, 40)
    assert fused.min() >= 0
    assert fused.max() <= 1


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("mask", [True, False])
def test_every_parameter_learns(preset, mask):
    torch.manual_seed(0)
    network = build("generator", {"preset": preset, "width": 16, "mask": mask})
    network(torch.rand(1, 4 if mask else 3, 24, 24)).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("preset", PRESETS)
def test_reach_is_not_underestimated(preset):
    network = build("generator", {"preset": preset, "width": 4})
    measured = nan_reach(network, 4, 512)
    assert 0.8 * network.reach < measured <= network.reach


def test_paper_block_concatenates():
    block = ConcatenatingBlock(64, growth=32)
    inputs = [block.first[0].in_channels, block.second[0].in_channels, block.last.in_channels]
    assert inputs == [64, 96, 128]
    features = torch.randn(1, 64, 5, 6)

    def activated(stage, values):
        convolved = functional.conv2d(values, stage[0].weight, stage[0].bias, padding=1)
        return torch.where(convolved > 0, convolved, stage[1].weight * convolved)

    a = activated(block.first, features)
    b = activated(block.second, torch.cat([features, a], dim=1))
    end = functional.conv2d(
        torch.cat([features, a, b], dim=1), block.last.weight, block.last.bias, padding=1
    )
    torch.testing.assert_close(block(features), features + end / 2)


def test_code_block_adds_what_the_repository_adds():
    block = AddingBlock(8)
    x = torch.randn(1, 8, 5, 6)
    first_sum = x + functional.leaky_relu(block.first(x))
    second_sum = x + first_sum + functional.leaky_relu(block.second(first_sum))
    total = x + first_sum + second_sum
    torch.testing.assert_close(block(x), x + block.last(total) * 0.5)


def test_presets_upsample_as_they_say():
    coarse = torch.tensor([[[[0.0, 1.0]]]])
    paper = build("generator", {"preset": "paper", "width": 4})._upsampled(coarse)
    code = build("generator", {"preset": "code", "width": 4})._upsampled(coarse)
    assert paper[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]
    assert code[0, 0, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
