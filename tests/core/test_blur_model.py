import pytest
import torch
from test_generator import nan_reach, parameters_and_gmac_per_mpx

from napari_focusfuse.models import build

PRESETS = ("paper", "code")


@pytest.mark.parametrize(
    ("preset", "parameters", "gmac"),
    # The repository's: 22.16 M with biases before its normalisations, 120 GMAC/Mpx.
    [("code", 22.14, 120), ("paper", 16.15, 95)],
)
def test_cost_of_the_paper_size(preset, parameters, gmac):
    counted = parameters_and_gmac_per_mpx("blur", {"preset": preset}, 3)
    assert counted == (pytest.approx(parameters, abs=0.005), pytest.approx(gmac, abs=0.3))


def test_trunk_is_resnet_50_to_its_40th_activation():
    with torch.device("meta"):
        trunk = build("blur", {}).trunk
        features = trunk(torch.empty(1, 3, 512, 512))
    assert features.shape == (1, 1024, 32, 32)
    # ResNet-50 has 25 557 032 parameters, of which layer4 14 964 736 and the classifier 2 049 000.
    assert sum(p.numel() for p in trunk.parameters()) == 25557032 - 14964736 - 2049000
    activations = [m for m in trunk.modules() if isinstance(m, torch.nn.ReLU)]
    blocks = [m for m in trunk.children() if hasattr(m, "shortcut")]
    assert len(activations) + len(blocks) == 40


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(16, 16), (32, 80)])
def test_any_size_of_the_grid(preset, shape):
    network = build("blur", {"preset": preset, "width": 4}).eval()
    logits = network(torch.rand(2, 3, *shape))
    assert logits.shape == (2, 2, *shape)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_learns(preset):
    torch.manual_seed(0)
    network = build("blur", {"preset": preset, "width": 16})
    network(torch.rand(2, 3, 64, 64))[:, 1].square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None]
    assert idle == []


@pytest.mark.parametrize("preset", PRESETS)
def test_an_image_is_judged_alone(preset):
    network = build("blur", {"preset": preset, "width": 4}).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[:1], network(images[:1]))


@pytest.mark.parametrize("preset", PRESETS)
def test_reach_is_not_underestimated(preset):
    network = build("blur", {"preset": preset, "width": 4})
    measured = nan_reach(network, 3, 2048)
    assert 0.8 * network.reach < measured <= network.reach
