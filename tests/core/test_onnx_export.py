"""Models as ONNX: the same pictures, from any size, in another program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import Shell
from test_weights import tiny

from napari_focusfuse import onnx_export
from napari_focusfuse.fusion.catalogue import detector_info, model_info
from napari_focusfuse.fusion.neural import load_detector, load_neural
from napari_focusfuse.model_card import ModelCard, read_card
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.weights import load_model, save_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def save(folder: Path, architecture: str, blur_model: str | None = None) -> Path:
    """Save a tiny network that does something: fresh ones may start from doing nothing."""
    torch.manual_seed(0)
    network, card, _ = tiny(architecture)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    path = folder / f"{architecture}.safetensors"
    multiple_of = int(network.multiple_of)
    save_model(path, network, replace(card, multiple_of=multiple_of, blur_model=blur_model))
    return path


def run(path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def channels_first(stacks: np.ndarray) -> np.ndarray:
    """Return (B, Z * 3, Y, X) of (B, Z, Y, X, 3)."""
    batch, _, height, width, _ = stacks.shape
    return np.moveaxis(stacks, -1, 2).reshape(batch, -1, height, width)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def test_a_swift_graph_restores_as_the_plugin_does_and_is_told_the_same(
    tmp_path: Path, shell: Shell
) -> None:
    model, out = save(tmp_path, "swift"), tmp_path / "swift.onnx"
    answer = shell("export", model, "-o", out)
    assert answer.code == 0, answer.err
    assert "takes sampling: (1, 3): log2(um from plane 0 to 1 / 2)" in answer.out
    stacks = noise(2, 3, 72, 40, 3)
    sampling = Sampling((1.0, 2.7), 0.12)
    method = load_neural(model_info(model, read_card(model)), dtype="float32")
    told = np.array([sampling.octaves()], np.float32)
    found = run(out, planes=channels_first(stacks), sampling=told)
    wanted = np.moveaxis(method.at(sampling).infer(stacks), -1, 1)
    np.testing.assert_allclose(found["fused"], wanted[:, :3].clip(0, 1), atol=1e-5)
    np.testing.assert_allclose(found["error"], wanted[:, 3:], rtol=1e-3)
    untold = run(out, planes=channels_first(stacks), sampling=0 * told)["fused"]
    np.testing.assert_allclose(np.moveaxis(untold, 1, -1), method(stacks), atol=1e-5)
    assert np.abs(untold - found["fused"]).max() > 1e-3


def test_a_paper_graph_holds_its_blur_model_and_gives_the_masks(tmp_path: Path) -> None:
    blur = save(tmp_path, "small-blur")
    model, out = save(tmp_path, "generator", read_card(blur).sha256), tmp_path / "paper.onnx"
    made = onnx_export.export_onnx(model, out)
    assert made.difference < 1e-4
    stacks = noise(1, 3, 64, 96, 3)
    found = run(out, planes=channels_first(stacks))
    method = load_neural(model_info(model, read_card(model)), dtype="float32")
    np.testing.assert_allclose(np.moveaxis(found["fused"], 1, -1), method(stacks), atol=1e-5)
    detector = load_detector(detector_info(blur, read_card(blur)), dtype="float32")
    masks = [detector(stacks[:, z : z + 1])[..., 0] for z in range(3)]
    np.testing.assert_allclose(found["blurred"], np.stack(masks, axis=1), atol=1e-5)
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert ModelCard.from_json(metadata["focusfuse"]) == read_card(model)
    assert json.loads(metadata["focusfuse_blur_model"])["sha256"] == read_card(blur).sha256
    assert "multiples of 8" in onnx.load(out).doc_string


def test_a_blur_graph_gives_the_probability_and_one_of_other_weights_is_refused(
    tmp_path: Path,
) -> None:
    model, out = save(tmp_path, "blur"), tmp_path / "blur.onnx"
    onnx_export.export_onnx(model, out)
    stacks = noise(2, 1, 48, 80, 3)
    found = run(out, planes=channels_first(stacks))
    wanted = load_detector(detector_info(model, read_card(model)), dtype="float32")(stacks)
    np.testing.assert_allclose(np.moveaxis(found["blurred"], 1, -1), wanted, atol=1e-5)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    network, card = load_model(model)
    torch.nn.init.normal_(next(network.parameters()))
    graph = onnx_export._graph(model, network, card, None)
    with pytest.raises(onnx_export.OnnxExportError, match="does not compute what the model does"):
        onnx_export._compare(graph, out.read_bytes(), model)


def test_what_cannot_be_exported_is_told_in_one_sentence(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model, pickled = tmp_path / "o.onnx", save(tmp_path, "liu"), tmp_path / "old.pt"
    torch.save({}, pickled)
    (tmp_path / "there.onnx").touch()
    for arguments, code, message in (
        (("gold", "-o", out), 1, "There is no model 'gold'"),
        ((tmp_path / "none.safetensors", "-o", out), 4, "cannot be read"),
        ((pickled, "-o", out), 4, "is a pickled model"),
        ((model, "-o", out), 4, "only scores patches"),
        (("small-blur", "-o", tmp_path / "o.bin"), 1, "choose .onnx"),
        (("small-blur", "-o", tmp_path / "none" / "o.onnx"), 5, "does not exist"),
        (("small-blur", "-o", tmp_path / "there.onnx"), 5, "or --overwrite"),
    ):
        answer = shell("export", *arguments)
        assert answer.code == code, answer.err
        assert message in answer.complaint
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("onnx", "onnx_that_nobody_has"))
    answer = shell("export", "small-blur", "-o", out)
    assert answer.code == 4
    assert "onnx_that_nobody_has" in answer.complaint
    assert "napari-focusfuse[onnx]" in answer.complaint
    assert not out.exists()
