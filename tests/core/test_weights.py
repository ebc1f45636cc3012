import hashlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_model_card import CARD

from napari_focusfuse.model_card import ModelError, read_card, shipped_models
from napari_focusfuse.models import build
from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.weights import load_model, save_model

TINY = {
    "generator": ({"width": 4, "planes": 3}, (-1, 0, 1), 12, 8),
    "blur": ({"width": 4}, (0,), 3, 16),
    "swift": ({"width": 4, "planes": 3}, (-1, 0, 1), 9, 8),
    "small-blur": ({"width": 4}, (0,), 3, 4),
    "fusiongan": ({"width": 8, "planes": 3}, (-1, 0, 1), 9, 1),
    "pix2pix": ({"width": 4, "planes": 3, "levels": 4}, (-1, 0, 1), 9, 16),
    "srgan": ({"width": 4, "planes": 3, "blocks": 1}, (-1, 0, 1), 9, 1),
    "liu": ({"width": 4}, (0,), 2, 2),
}


def tiny(architecture):
    config, offsets, channels, multiple = TINY[architecture]
    card = replace(
        CARD,
        architecture=architecture,
        config=config,
        plane_offsets=offsets,
        multiple_of=multiple,
    )
    return build(architecture, config).eval(), card, torch.rand(1, channels, 32, 48)


@pytest.fixture
def saved(tmp_path):
    """A saved swift model: (path, card)."""
    module, card, _ = tiny("swift")
    path = tmp_path / "tiny.safetensors"
    return path, save_model(path, module, card)


def rewrite(path, change, **card_changes):
    """Save a model file again after ``change(tensors)``, past our checks."""
    tensors = load_file(path)
    change(tensors)
    card = json.loads(read_card(path).to_json()) | card_changes
    save_file(tensors, path, metadata={"focusfuse": json.dumps(card)})


def honest_hash(path):
    """Hash the tensors by the definition in the card's documentation, from the raw file."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__")
    digest = hashlib.sha256()
    for name in sorted(header):
        first, last = header[name]["data_offsets"]
        digest.update(content[start + first : start + last])
    return digest.hexdigest()


def refusal(path):
    with pytest.raises(ModelError) as caught:
        load_model(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("architecture", list(TINY))
def test_a_network_survives_the_file(tmp_path, architecture):
    module, card, inputs = tiny(architecture)
    path = tmp_path / "m.safetensors"
    written = save_model(path, module, card)
    loaded, read = load_model(path)
    assert read == written == read_card(path) == replace(card, sha256=honest_hash(path))
    assert not loaded.training
    with torch.no_grad():
        torch.testing.assert_close(loaded(inputs), module(inputs), rtol=0, atol=0)


def test_half_weights_come_back_as_float32(tmp_path):
    module, card, inputs = tiny("blur")
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_model(full, module, card)
    written = save_model(half, module, card, half=True)
    assert written.sha256 == honest_hash(half)
    assert half.stat().st_size < 0.7 * full.stat().st_size
    loaded, _ = load_model(half)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(loaded(inputs), module(inputs), atol=0.02, rtol=0.02)


def test_saving_does_not_change_the_network(tmp_path):
    module, card, _ = tiny("swift")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_model(tmp_path / "m.safetensors", module, card, half=True)
    assert all(torch.equal(before[name], now) for name, now in module.state_dict().items())


def test_saving_replaces_whole_or_not_at_all(saved, tmp_path):
    path, _ = saved
    before = path.read_bytes()
    module, card, _ = tiny("swift")
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        save_model(path, module, card)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_that_is_not_there(tmp_path):
    module, card, _ = tiny("swift")
    with pytest.raises(FocusFuseError, match="cannot be written") as caught:
        save_model(tmp_path / "absent" / "m.safetensors", module, card)
    assert caught.value.exit_code == 5


def test_saving_refuses_a_card_of_another_network(tmp_path):
    module, card, _ = tiny("swift")
    with pytest.raises(ModelError, match="does not fit"):
        save_model(tmp_path / "m.safetensors", module, replace(card, config={"width": 8}))
    assert list(tmp_path.iterdir()) == []


def test_flipped_bits(saved):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert "hash" in refusal(path)


def test_truncated(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-4])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved, value):
    path, _ = saved

    def spoil(tensors):
        tensors["head.bias"][1] = value

    rewrite(path, spoil)
    rewrite(path, lambda tensors: None, sha256=honest_hash(path))
    text = refusal(path)
    assert "NaN or infinity" in text
    assert "head.bias" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("head.bias"), ("lacks 'head.bias'", "1 missing, 0 unknown")),
        (lambda t: t.update(extra=torch.ones(2)), ("has 'extra'", "0 missing, 1 unknown")),
        (lambda t: t.update({"head.bias": torch.ones(5)}), ("(5,)", "(4,)")),
        (lambda t: t.update({"head.bias": torch.ones(4, dtype=torch.int32)}), ("int32",)),
        (lambda t: t.update({"head.bias": torch.ones(4, dtype=torch.float64)}), ("float64",)),
    ],
    ids=["missing", "unknown", "channels", "integer", "double"],
)
def test_tensors_of_another_network(saved, change, words):
    path, _ = saved
    rewrite(path, change)
    rewrite(path, lambda tensors: None, sha256=honest_hash(path))
    text = refusal(path)
    assert all(word in text for word in words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "resnet"}, "'resnet' is unknown"),
        ({"architecture": "small-blur", "config": {}}, "does not fit"),
        ({"config": {"planes": 1, "width": 4}}, "does not fit"),
        ({"config": {"planes": 3, "width": 100_000}}, "an integer from 4 to 256"),
        ({"config": {"planes": 3, "depth": 3}}, "no setting 'depth'"),
        ({"plane_offsets": [0]}, "lists 1 focus layers and its network takes 3"),
        ({"multiple_of": 2}, "multiples of"),
    ],
)
def test_cards_that_contradict_their_network(saved, changes, words):
    path, _ = saved
    rewrite(path, lambda tensors: None, **changes)
    assert words in refusal(path)


def test_a_header_that_only_safetensors_sees_through(saved):
    path, _ = saved
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["head.bias"]["shape"] = [400]
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[start:])
    assert "damaged" in refusal(path)


class Evil:
    """Touches a file when unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors"])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_is_never_opened(tmp_path, name, form):
    marker, path = tmp_path / "touched", tmp_path / name
    if form == "torch":
        torch.save(Evil(marker), path)
    else:
        path.write_bytes(pickle.dumps(Evil(marker)))
    assert "pickled" in refusal(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists(), "the trap itself does not work"


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("resnet", {}, "known are generator, blur, swift, small-blur"),
        ("swift", {"colour": 1}, "no setting 'colour'"),
        ("swift", {"width": 1 << 20}, "an integer from 4 to 256"),
        ("swift", {"width": True}, "an integer"),
        ("swift", {"width": 8.0}, "an integer"),
        ("swift", {"planes": 0}, "an integer from 1 to 31"),
        ("small-blur", {"blocks": -1}, "an integer from 0"),
        ("generator", {"preset": "fast"}, "paper or code"),
        ("generator", {"preset": ["paper"]}, "paper or code"),
        ("generator", {"mask": 1}, "true or false"),
        ("blur", {"planes": 3}, "no setting 'planes'"),
    ],
)
def test_impossible_networks(architecture, config, words):
    with pytest.raises(ModelError, match=words) as caught:
        build(architecture, config)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("architecture", list(TINY))
def test_every_setting_is_bounded(architecture):
    with torch.device("meta"):
        settings = vars(build(architecture, {}).config)
    assert "width" in settings
    for name in settings:
        with pytest.raises(ModelError, match=name):
            build(architecture, {name: 10**6})


@pytest.mark.parametrize("architecture", list(TINY))
def test_no_setting_means_the_defaults(architecture):
    with torch.device("meta"):
        config = build(architecture, {}).config
    assert config == type(config)()


@pytest.mark.parametrize("name", shipped_models() or [pytest.param("", marks=pytest.mark.skip)])
def test_shipped_models_load(name):
    module, card = load_model(shipped_models()[name])
    assert card.name == name
    assert card.halo <= module.reach
