"""The discriminators: their sizes, their maps, and what each of them looks at."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from focusfuse_training.discriminators import build_discriminator
from napari_focusfuse.model_card import ModelError


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


SIZES = {"patch": 2_331_521, "fusiongan": 398_081, "pix2pix": 2_768_705, "srgan": 23_563_649}
"""Parameters by default; Pix2Pix' 2.769 M is what its authors' repository prints."""


@pytest.mark.parametrize("name", list(SIZES))
def test_the_default_sizes(name: str) -> None:
    with torch.device("meta"):
        assert parameters(build_discriminator(name, 1, {})) == SIZES[name]


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


def test_the_papers_logit_sees_109_px() -> None:
    torch.manual_seed(0)
    network = build_discriminator("patch", 1, {"preset": "code", "width": 4}).eval()
    image = torch.rand(4, 3, 512, 512, requires_grad=True)
    # The pooling passes one pixel of sixteen on: 32 logits of a column show all that one can see.
    network(image)[..., 4].sum().backward()
    assert image.grad is not None
    columns = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()[:, 0]
    assert int(columns.max() - columns.min()) + 1 == 109


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("side", [96, 256])
@pytest.mark.parametrize("name", list(SIZES))
def test_every_parameter_learns_from_patches_of_any_size(name: str, side: int, planes: int) -> None:
    torch.manual_seed(0)
    network = build_discriminator(name, planes, {"width": 8})
    image = torch.rand(2, 3, side, side, requires_grad=True)
    logits = network(image, torch.rand(2, 3 * planes, side, side))
    assert len(logits) == 2
    functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert image.grad is not None
    assert image.grad.any()


@pytest.mark.parametrize("name", ["fusiongan", "srgan"])
def test_dense_heads_give_one_logit(name: str) -> None:
    network = build_discriminator(name, 1, {"width": 4})
    assert network(torch.rand(2, 3, 120, 88)).shape == (2, 1)


@pytest.mark.parametrize(("name", "side"), [("fusiongan", 120), ("srgan", 96)])
def test_the_originals_patches_are_not_averaged(name: str, side: int) -> None:
    network = build_discriminator(name, 1, {"width": 4})
    pooling = network.convolutions[-1]
    assert isinstance(pooling, nn.AdaptiveAvgPool2d)
    features = network.convolutions[:-1](torch.rand(2, 3, side, side))
    assert torch.equal(pooling(features), features)


@pytest.mark.parametrize("name", list(SIZES))
def test_only_pix2pix_looks_at_the_stack(name: str) -> None:
    network = build_discriminator(name, 3, {"width": 4}).eval()
    image, stacks = torch.rand(1, 3, 96, 96), torch.rand(2, 1, 9, 96, 96)
    with torch.no_grad():
        logits = [network(image, stacked) for stacked in stacks]
        assert torch.equal(*logits) == (name != "pix2pix")


def test_pix2pix_wants_the_stack() -> None:
    network = build_discriminator("pix2pix", 1, {"width": 4})
    with pytest.raises(ValueError, match="with what it came from"):
        network(torch.rand(1, 3, 96, 96))


def test_pix2pix_judges_patches_of_70_px() -> None:
    network = build_discriminator("pix2pix", 1, {"width": 4})
    # Without its normalisation, whose statistics are those of the whole image.
    layers = nn.Sequential(*(x for x in network.layers if not isinstance(x, nn.InstanceNorm2d)))
    image = torch.rand(1, 6, 256, 256, requires_grad=True)
    layers(image)[0, 0, 15, 15].backward()
    assert image.grad is not None
    seen = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()[:, 0]
    assert int(seen.max() - seen.min()) + 1 == 70


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("vgg", {}, "known are patch, fusiongan, srgan, pix2pix"),
        ("patch", {"preset": "fast"}, "discriminator 'patch' cannot be 'fast'; give paper or code"),
        ("patch", {"planes": 3}, "discriminator 'patch' has no setting 'planes'"),
        ("patch", {"width": 10**6}, "an integer from 4 to 256"),
    ],
)
def test_impossible_discriminators(name: str, config: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build_discriminator(name, 1, config)
