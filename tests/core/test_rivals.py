"""The networks to compare with: their published sizes, what they return, and that they fuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from napari_focusfuse.fusion.catalogue import load_method, method_info
from napari_focusfuse.fusion.inference import REACH
from napari_focusfuse.fusion.method import MAX_MARGIN
from napari_focusfuse.fusion.neural import load_neural
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.fusion.region import PAPER, fuse
from napari_focusfuse.fusion.seams import seam_dependence
from napari_focusfuse.model_card import ModelCard
from napari_focusfuse.models import build
from napari_focusfuse.models.liu import PATCH, LiuClassifier, LiuConfig
from napari_focusfuse.slide import Region
from napari_focusfuse.weights import save_model
from textured_slide import planned, textured_slide

SMALL: dict[str, dict[str, object]] = {
    "fusiongan": {"width": 16},
    "pix2pix": {"width": 4},
    "srgan": {"width": 4, "blocks": 2},
}
"""The three that fuse, small enough for a test; Pix2Pix with all its levels."""


def network(name: str, planes: int = 3) -> nn.Module:
    torch.manual_seed(len(name))
    return build(name, {"planes": planes, **SMALL[name]})


def saved(folder: Path, name: str, planes: int) -> Path:
    """Save a model of random weights with its card."""
    module = network(name, planes)
    card = ModelCard(
        name=name,
        title=name,
        architecture=name,
        config={"planes": planes, **SMALL[name]},
        plane_offsets=tuple(range(-(planes // 2), planes // 2 + 1)),
        halo=module.reach,
        multiple_of=module.multiple_of,
        z_step_um=2.7 if planes > 1 else None,
        mpp=0.25,
    )
    path = folder / f"{name}.safetensors"
    save_model(path, module, card)
    return path


def parameters(name: str, config: dict[str, object]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(name, config).parameters())


def test_fusiongan_has_its_published_size() -> None:
    # 925 633 for two grey inputs and one output, 480 of them biases before a normalisation.
    ours = 925_633 - 480 + 25 * 256 * (9 - 2) + (32 + 1) * (3 - 1)
    assert parameters("fusiongan", {"planes": 3}) == ours


def test_pix2pix_has_its_published_size() -> None:
    # 54.414 M from RGB to RGB in its authors' PyTorch repository.
    assert round(parameters("pix2pix", {"planes": 1}) / 1e6, 2) == 54.41


def test_srgan_has_its_published_size() -> None:
    # 1.55 M, of which 0.295 M are in the two stages that enlarge.
    assert round(parameters("srgan", {"planes": 1}) / 1e6, 2) == 1.25


def test_lius_network_has_its_published_size() -> None:
    assert round(parameters("liu", {}) / 1e6, 2) == 8.76


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("name", list(SMALL))
def test_the_output_is_an_image_in_range(name: str, planes: int) -> None:
    module = network(name, planes)
    stacked = torch.rand(2, 3 * planes, 256, 512) * 50 - 25
    with torch.no_grad():
        fused = module(stacked)
    assert fused.shape == (2, 3, 256, 512)
    assert 0 <= float(fused.min()) < float(fused.max()) <= 1


@pytest.mark.parametrize("name", list(SMALL))
def test_every_parameter_learns(name: str) -> None:
    module = network(name)
    module(torch.rand(2, 9, 256, 256)).square().sum().backward()
    idle = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", list(SMALL))
def test_only_training_leaves_anything_to_chance(name: str) -> None:
    module, stacked = network(name).eval(), torch.rand(1, 9, 256, 256)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.no_grad():
        first, again = module(stacked), module(stacked)
        assert torch.equal(first, again)
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
        assert not torch.equal(module.train()(stacked), first)


@pytest.mark.parametrize(("levels", "multiple"), [(2, 4), (5, 32), (8, 256)])
def test_pix2pix_takes_multiples_of_its_coarsest_pixel(levels: int, multiple: int) -> None:
    module = build("pix2pix", {"width": 4, "levels": levels})
    assert module.multiple_of == multiple
    for height, width in ((multiple, multiple), (multiple, 3 * multiple)):
        assert module(torch.rand(1, 9, height, width)).shape == (1, 3, height, width)
    with pytest.raises(RuntimeError, match="size"):
        module(torch.rand(1, 9, multiple, multiple + multiple // 2))


def test_pix2pix_drops_features_in_three_levels_and_starts_from_small_weights() -> None:
    module = build("pix2pix", {"width": 16})
    rates = [layer.p for layer in module.modules() if isinstance(layer, nn.Dropout)]
    assert rates == [0.5, 0.5, 0.5, 0, 0, 0, 0]
    weights = [layer.weight.detach() for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert all(0.017 < float(weight.std()) < 0.023 for weight in weights)


def test_pix2pix_sees_its_whole_tile_and_never_claims_a_margin() -> None:
    module = build("pix2pix", {"width": 4, "levels": 2}).eval()
    clean = torch.rand(1, 9, 64, 256)
    spoilt = clean.clone()
    spoilt[..., 0] += 100.0
    with torch.no_grad():
        changed = (module(clean) != module(spoilt)).any(dim=1)[0].any(dim=0)
    assert changed[-8:].any()
    assert module.reach > MAX_MARGIN


@pytest.mark.parametrize("name", ["fusiongan", "srgan"])
def test_reach_is_exactly_what_is_declared(tmp_path: Path, name: str) -> None:
    # In bfloat16 libraries fill kernels up with zeros, and zero times the probe's NaN is NaN: it
    # shows one pixel more than any number can travel.
    method = load_neural(method_info(str(saved(tmp_path, name, 1))), "cpu", "float32")
    assert measure_reach(method.compute, method.info) == method.info.halo - REACH


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("name", list(SMALL))
def test_a_model_file_fuses(tmp_path: Path, name: str, planes: int) -> None:
    path = saved(tmp_path, name, planes)
    slide = textured_slide(300, 340, mpp=(0.25, 0.25), z_um=[-2.7, 0, 2.7])
    region, part = Region(20, 30, 240, 280), Region(100, 120, 70, 90)
    wanted = "three" if planes == 3 else "one"
    fusion = fuse(slide, region, planes=wanted, method=str(path), device="cpu", mask=True)
    assert fusion.image.shape == (240, 280, 3)
    assert fusion.image.std() > 1
    assert fusion.mask is not None
    assert fusion.provenance["method"] == name
    # Anchored: a part asked for by itself is the same.
    alone = fuse(slide, part, planes=wanted, method=str(path), device="cpu").image
    np.testing.assert_array_equal(alone, fusion.image[80:150, 90:180])


def test_the_papers_tiling_fits_every_rival(tmp_path: Path) -> None:
    slide = textured_slide(64, 64, planes=1)
    for name in SMALL:
        info = method_info(str(saved(tmp_path, name, 1)))
        fusion = fuse(
            slide,
            Region(0, 0, 64, 64),
            planes="one",
            method=str(info.weights),
            preset=PAPER,
            device="cpu",
        )
        assert fusion.image.shape == (64, 64, 3)


def test_tiles_of_pix2pix_disagree_and_the_plan_says_so(tmp_path: Path) -> None:
    method = load_method(str(saved(tmp_path, "pix2pix", 1)), "cpu")
    slide = textured_slide(300, 340)
    plan = planned(slide, method, Region(0, 0, 300, 340), PAPER)
    assert plan.tiling == "anchored only"
    assert plan.grid.tile % method.info.multiple_of == 0
    assert seam_dependence(plan, method).maximum > 0


def test_lius_network_gives_each_pair_of_patches_its_scores() -> None:
    torch.manual_seed(0)
    module = LiuClassifier(LiuConfig(width=4)).eval()
    pair = torch.rand(1, 2, 40, 48)
    with torch.no_grad():
        scores = module(pair)
        assert scores.shape == (1, 2, 40 // 2 - 7, 48 // 2 - 7)
        assert module(pair[..., :PATCH, :PATCH]).shape == (1, 2, 1, 1)
        # A patch that comes with the 4 px around it, which its convolutions see, gets the same
        # scores alone as in the image.
        for y, x in ((4, 4), (10, 22), (20, 28)):
            around = module(pair[..., y - 4 : y + PATCH + 4, x - 4 : x + PATCH + 4])
            torch.testing.assert_close(around[..., 2, 2], scores[..., y // 2, x // 2])


def test_lius_branches_are_one() -> None:
    module = LiuClassifier(LiuConfig(width=4))
    sharp, soft = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
    features = {}

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        features[len(features)] = output

    module.branch.register_forward_hook(keep)
    module(torch.cat([sharp, soft], dim=1))
    module(torch.cat([soft, sharp], dim=1))
    assert torch.equal(features[0], features[3])
    assert torch.equal(features[1], features[2])
    assert not torch.equal(features[0], features[1])


def test_lius_network_learns() -> None:
    module = LiuClassifier(LiuConfig(width=4))
    logits = module(torch.rand(4, 2, PATCH, PATCH)).flatten(1)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0, 1])).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
