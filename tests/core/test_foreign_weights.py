"""Weights that others saved: only tensors come in, and only those of the network named."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from shell import Shell
from test_weights import tiny

from napari_focusfuse import foreign_weights
from napari_focusfuse.foreign_weights import convert, read_tensors
from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.model_card import ModelError, read_card
from napari_focusfuse.weights import load_model


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.json"
    config = tiny("swift")[1].config
    path.write_text(json.dumps({"name": "theirs", "architecture": "swift", "config": config}))
    return path


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return dict(tiny("swift")[0].state_dict())


def wrapped(tensors: dict[str, torch.Tensor]) -> dict[str, object]:
    """Return what a training loop on several processes keeps."""
    parallel = {f"module.{name}": tensor.double() for name, tensor in tensors.items()}
    return {"epoch": 7, "state_dict": parallel, "optimizer": {"lr": 1e-3, "momentum": [0.9]}}


@pytest.mark.parametrize("form", [dict, wrapped])
def test_a_foreign_model_fuses_and_its_card_says_what_is_not_known(
    form, tmp_path: Path, card: Path, weights, capsys
) -> None:
    source, out = tmp_path / "theirs.pt", tmp_path / "theirs.safetensors"
    torch.save(form(weights), source)
    answer = Shell(capsys)("convert", source, "-o", out, "--card", card)
    assert answer.code == 0, answer.err
    network, made = load_model(out)
    assert all(torch.equal(weights[name], t) for name, t in network.state_dict().items())
    assert made.training["data"] == made.training["licence"] == "unknown"
    assert made.training["converted_from"] == "theirs.pt"
    assert (made.plane_offsets, made.multiple_of, made.halo) == ((-1, 0, 1), 8, network.reach)
    assert "nobody has measured" in made.limits[-1]
    assert load_method(str(out), "cpu").info.name == "theirs"


def test_what_is_known_goes_into_the_card(tmp_path: Path, card: Path, weights) -> None:
    source, out = tmp_path / "theirs.pt", tmp_path / "theirs.safetensors"
    torch.save(weights, source)
    known = {"title": "Theirs", "mpp": 0.5, "training": {"data": "my smears"}, "halo": 200}
    card.write_text(json.dumps(json.loads(card.read_text()) | known))
    made = convert(source, out, card, half=True)
    assert (made.title, made.mpp, made.halo) == ("Theirs", 0.5, 200)
    assert (made.training["data"], made.training["licence"]) == ("my smears", "unknown")
    assert out.stat().st_size < source.stat().st_size


class Attack:
    """What runs a command when a careless reader opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def bomb(path: Path) -> None:
    """Write a small file that unpacks to two megabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/0", bytes(2 << 20))


def test_files_that_are_no_weights_are_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_weights, "MAX_MODEL_BYTES", 1 << 20)
    mark = tmp_path / "ran"
    wide = torch.zeros(1).expand(1 << 40)
    cases = {
        "code.pt": (lambda p: torch.save({"a": Attack(mark)}, p), "more than tensors"),
        "whole.pt": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "more than tensors"),
        "numbers.pt": (lambda p: torch.save({"a": 1.0}, p), "no weights by name"),
        "empty.pt": (lambda p: torch.save({}, p), "no weights by name"),
        "wide.pt": (lambda p: torch.save({"a": wide}, p), "no weights by name"),
        "old.pt": (
            lambda p: torch.save({}, p, _use_new_zipfile_serialization=False),
            "before PyTorch 1.6",
        ),
        "text.pt": (lambda p: p.write_text("PK"), "not an archive"),
        "zip.pt": (lambda p: zipfile.ZipFile(p, "w").close(), "damaged"),
        "bomb.pt": (bomb, "holds 2 MB, and no model of ours more than 1;"),
    }
    for name, (write, message) in cases.items():
        write(tmp_path / name)
        with pytest.raises(ModelError, match=message):
            read_tensors(tmp_path / name)
    assert not mark.exists()


def test_weights_that_do_not_fit_and_cards_that_are_none_are_refused(
    tmp_path: Path, card: Path, weights, capsys
) -> None:
    shell, out = Shell(capsys), tmp_path / "out.safetensors"
    plain = json.loads(card.read_text())
    fewer = dict(list(weights.items())[1:])
    turned = weights | {"head.weight": weights["head.weight"].movedim(0, 1)}
    infinite = weights | {"head.bias": weights["head.bias"] / 0}
    for tensors, described, message in (
        (fewer, plain, "1 missing, 0 unknown"),
        (turned, plain, "has shape"),
        (infinite, plain, "NaN or infinity"),
        (weights, plain | {"architecture": "resnet"}, "is unknown"),
        (weights, plain | {"config": {"width": 10**9}}, "cannot be 1000000000"),
        (weights, plain | {"colour": "red"}, "has the field 'colour'"),
        (weights, {"name": "x"}, "must give name and architecture"),
        (weights, plain | {"name": "../x"}, "its name must be"),
        (dict(tiny("generator")[0].state_dict()), plain, "missing"),
    ):
        torch.save(tensors, tmp_path / "in.pt")
        card.write_text(json.dumps(described))
        answer = shell("convert", tmp_path / "in.pt", "-o", out, "--card", card)
        assert answer.code == 4, answer.err
        assert message in answer.complaint
    card.write_text("no JSON")
    assert "is not a JSON object" in shell("convert", out, "-o", out, "--card", card).complaint
    assert not out.exists()
    card.write_text(json.dumps(plain))
    torch.save(weights, tmp_path / "in.pt")
    nowhere = tmp_path / "none" / "out.safetensors"
    assert shell("convert", tmp_path / "in.pt", "-o", nowhere, "--card", card).code == 5


def test_a_generator_with_masks_needs_to_know_its_blur_model(tmp_path: Path, card: Path) -> None:
    network, described, _ = tiny("generator")
    torch.save(network.state_dict(), tmp_path / "in.pt")
    plain = {"name": "g", "architecture": "generator", "config": described.config}
    card.write_text(json.dumps(plain))
    with pytest.raises(ModelError, match="give blur_model"):
        convert(tmp_path / "in.pt", tmp_path / "g.safetensors", card)
    card.write_text(json.dumps(plain | {"blur_model": "a" * 64}))
    convert(tmp_path / "in.pt", tmp_path / "g.safetensors", card)
    assert read_card(tmp_path / "g.safetensors").blur_model == "a" * 64
