from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_focusfuse.fusion import catalogue
from napari_focusfuse.fusion.catalogue import (
    available_methods,
    blur_detector_info,
    load_blur_detector,
    load_method,
    method_info,
)
from napari_focusfuse.fusion.device import DeviceError, find_device
from napari_focusfuse.fusion.inference import REACH
from napari_focusfuse.fusion.method import INFERRED, MAX_MARGIN, FusionError, UnknownMethodError
from napari_focusfuse.fusion.neural import NeuralMethod, fast_dtype, load_neural
from napari_focusfuse.fusion.reach import measure_reach
from napari_focusfuse.fusion.region import fuse
from napari_focusfuse.model_card import ModelCard, ModelError
from napari_focusfuse.models import build
from napari_focusfuse.slide import PlaneError, Region
from napari_focusfuse.weights import save_model
from textured_slide import texture, textured_slide

NETWORKS = {
    "swift-single": ("swift", {"planes": 1, "width": 8, "half_blocks": 0, "quarter_blocks": 1}),
    "swift-three": ("swift", {"planes": 3, "width": 8, "half_blocks": 0, "quarter_blocks": 1}),
    "small-blur": ("small-blur", {"width": 8, "blocks": 1}),
    "paper-single": ("generator", {"planes": 1, "width": 4, "mask": True}),
    "paper-plain": ("generator", {"planes": 1, "width": 4, "mask": False, "preset": "code"}),
}


def save(folder: Path, name: str, **about) -> ModelCard:
    torch.manual_seed(len(name))
    architecture, config = NETWORKS[name]
    network = build(architecture, config)
    if architecture == "swift":  # its last layer starts at zero, which would hide the rest
        torch.nn.init.normal_(network.tail.weight, std=0.02)
    count = config.get("planes", 1)
    card = ModelCard(
        name=name,
        title=name.replace("-", " ").capitalize(),
        architecture=architecture,
        config=config,
        plane_offsets=tuple(range(-(count // 2), count // 2 + 1)),
        halo=network.reach,
        multiple_of=network.multiple_of,
        z_step_um=2.7 if count > 1 else None,
        mpp=0.243,
        **about,
    )
    return save_model(folder / f"{name}.safetensors", network, card)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a model of each kind, the paper's with the blur model it names."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("swift-single", "swift-three", "paper-plain"):
        save(folder, name)
    save(folder, "paper-single", blur_model=save(folder, "small-blur").sha256)
    return folder


@pytest.fixture
def installed(models, monkeypatch) -> Path:
    """The same models in the place of the shipped ones."""
    found = {path.stem: path for path in sorted(models.glob("*.safetensors"))}
    monkeypatch.setattr(catalogue, "shipped_models", lambda: found)
    return models


def test_classical_methods_and_models_are_listed_and_blur_models_are_not(installed):
    methods = {info.name: info for info in available_methods()}
    assert list(methods) == [
        "evidence",
        "argmax",
        "pyramid",
        "dtcwt",
        "complex-wavelet",
        "guided",
        "wavelet",
        "paper-plain",
        "paper-single",
        "swift-single",
        "swift-three",
    ]
    assert {info.kind for info in methods.values()} == {"selection", "restoration"}
    assert methods["swift-three"].plane_offsets == (-1, 0, 1)
    assert methods["swift-three"].tiling == "exact"
    assert methods["paper-single"].tiling == "anchored only"


@pytest.mark.parametrize(
    ("name", "planes", "found"),
    [
        ("swift", 1, "swift-single"),
        ("swift", 3, "swift-three"),
        ("swift", None, "swift-three"),
        ("swift-single", 3, "swift-single"),
        ("pyramid", 7, "pyramid"),
        ("pyramid-plain", 7, "pyramid-plain"),
    ],
)
def test_a_family_is_resolved_by_the_number_of_planes(installed, name, planes, found):
    assert method_info(name, planes).name == found


def test_names_nobody_has_are_refused(installed):
    with pytest.raises(UnknownMethodError, match=r"no fusion method 'swif'.*argmax, pyramid") as e:
        method_info("swif")
    assert e.value.exit_code == 1
    with pytest.raises(PlaneError, match="swift takes 1 or 3 focus layers, not 5"):
        method_info("swift", 5)
    with pytest.raises(ModelError, match="cannot be read"):
        method_info("nowhere.safetensors")


def test_a_model_file_is_a_method_by_its_path(models):
    path = models / "swift-three.safetensors"
    info = method_info(str(path))
    assert (info.name, info.weights) == ("swift-three", path)
    with pytest.raises(ModelError, match="does not fuse focus layers"):
        method_info(str(models / "small-blur.safetensors"))


def test_the_blur_model_a_generator_takes_counts_and_must_be_there(models, tmp_path):
    path = models / "paper-single.safetensors"
    blur, generator = build(*NETWORKS["small-blur"]), build(*NETWORKS["paper-single"])
    assert method_info(str(path)).halo == blur.reach + generator.reach + REACH
    (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="needs the blur model of hash"):
        method_info(str(tmp_path / path.name))


def test_a_generator_that_takes_masks_must_name_what_makes_them(tmp_path):
    save(tmp_path, "paper-single")
    with pytest.raises(ModelError, match="if and only if its card names a blur model"):
        load_method(str(tmp_path / "paper-single.safetensors"), "cpu")


def test_masks_follow_their_plane_into_the_generator(models):
    method = load_method(str(models / "paper-single.safetensors"), "cpu")
    seen = []
    method._network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    image = texture(32, 40)[None, None].astype(np.float32) / 255
    method(image)
    (stacked,) = seen
    assert stacked.shape == (1, 4, 32, 40)
    np.testing.assert_array_equal(stacked[0, :3].movedim(0, -1), image[0, 0])
    with torch.inference_mode():
        logits = method._blur(stacked[:, :3])
    np.testing.assert_allclose(stacked[0, 3], logits.softmax(1)[0, 1], atol=0.02)


def test_planes_reach_a_network_in_order(models):
    method = load_method(str(models / "swift-three.safetensors"), "cpu")
    seen = []
    method._network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    stack = np.stack([texture(16, 24, seed) for seed in range(3)])[None].astype(np.float32) / 255
    method(stack)
    np.testing.assert_array_equal(seen[0].unflatten(1, (3, 3)).movedim(2, -1), stack)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "small-blur"])
def test_no_network_looks_further_than_its_card_says(models, name):
    method = load_neural(method_info(str(models / f"{name}.safetensors")), dtype="float32")
    measured = measure_reach(method.compute, method.info)
    assert 0.7 * method.info.halo < measured <= method.info.halo - REACH
    mapped = method.showing([INFERRED.name])
    assert measured < measure_reach(mapped.compute, mapped.info) <= mapped.info.halo


def test_a_card_that_says_too_little_is_seen_through(models):
    method = load_neural(method_info(str(models / "swift-single.safetensors")), dtype="float32")
    honest = method.info
    method.info = catalogue.MethodInfo(
        "lying", "Lying", "restoration", (0,), honest.halo - REACH - 8, honest.multiple_of
    )
    assert measure_reach(method.compute, method.info) > method.info.halo


@pytest.mark.slow
def test_every_shipped_model_looks_no_further_than_its_card_says():
    for info in available_methods():
        if info.weights is not None and info.halo <= MAX_MARGIN:
            method = load_neural(info, dtype="float32")
            assert measure_reach(method.compute, info) <= info.halo, info.name


def test_the_blur_detector_looks_no_further_than_its_card_says(installed):
    info = blur_detector_info()
    detector = load_blur_detector("cpu")
    measured = measure_reach(detector.compute, info)
    assert 0.7 * info.halo < measured <= info.halo


def test_the_blur_detector_gives_probabilities(installed):
    detector = load_blur_detector("cpu")
    images = np.stack([texture(32, 48, seed) for seed in (1, 2)]).astype(np.float32) / 255
    probability = detector(images[:, None])
    assert probability.shape == (2, 32, 48, 1)
    assert 0 <= probability.min() < probability.max() <= 1
    np.testing.assert_array_equal(detector(images[1:, None])[0], probability[1])


def test_no_detector_is_none(monkeypatch):
    monkeypatch.setattr(catalogue, "shipped_models", dict)
    assert load_blur_detector("cpu") is None


def test_one_call_fuses_and_makes_the_mask(installed):
    slide = textured_slide(90, 120, mpp=(0.25, 0.25))
    region = Region(10, 20, 60, 70)
    fusion = fuse(slide, region, planes="three", method="swift", device="cpu", mask=True)
    assert fusion.image.shape == (60, 70, 3)
    assert fusion.mask.shape == (60, 70)
    assert fusion.provenance["method"] == "swift-three"
    assert fusion.provenance["settings"]["dtype"] in ("float32", "bfloat16")
    assert len(fusion.provenance["model_sha256"]) == 64
    single = fuse(slide, region, planes="one", method="swift", device="cpu")
    assert single.provenance["method"] == "swift-single"


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "float32"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, "bfloat16"),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_bfloat16_is_taken_where_processors_are_faster_in_it(able, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert fast_dtype("cpu") == dtype


def test_low_precision_changes_a_picture_by_no_more_than_a_step(models):
    info = method_info(str(models / "swift-three.safetensors"))
    stack = np.stack([texture(64, 64, seed) for seed in range(3)])[None].astype(np.float32) / 255
    pictures = [load_neural(info, dtype=dtype)(stack) * 255 for dtype in ("float32", "bfloat16")]
    assert 0 < np.abs(pictures[0] - pictures[1]).max() <= 1


def test_weights_that_give_no_numbers_are_said(models):
    method = load_method(str(models / "swift-single.safetensors"), "cpu")
    with torch.no_grad():
        method._network.tail.bias[3] = torch.nan
    with pytest.raises(FusionError, match="Swift single gave values that are not numbers"):
        method(np.zeros((1, 1, 16, 16, 3), np.float32))


def test_a_file_that_changed_since_it_was_chosen_is_refused(tmp_path):
    save(tmp_path, "swift-single")
    info = method_info(str(tmp_path / "swift-single.safetensors"))
    (tmp_path / "swift-three.safetensors").unlink(missing_ok=True)
    save(tmp_path, "swift-three")
    (tmp_path / "swift-three.safetensors").replace(tmp_path / "swift-single.safetensors")
    with pytest.raises(ModelError, match="has changed since it was chosen"):
        load_method(info, "cpu")


def test_loading_leaves_the_number_of_threads_alone(models):
    before = torch.get_num_threads()
    method = load_method(str(models / "swift-single.safetensors"), "cpu")
    assert isinstance(method, NeuralMethod)
    method(np.zeros((1, 1, 16, 16, 3), np.float32))
    assert torch.get_num_threads() == before


def test_devices():
    assert find_device("cpu").name == "cpu"
    assert find_device("cpu").why_not_gpu
    auto = find_device()
    assert (auto.name == "cpu") == (auto.why_not_gpu is not None)
    with pytest.raises(DeviceError, match="no device 'tpu'") as error:
        find_device("tpu")
    assert error.value.exit_code == 1
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match=r"GPU.*Choose the device auto or cpu\."):
            find_device("cuda")


def test_planning_needs_no_torch():
    code = """
import sys
import numpy as np
import napari_focusfuse
assert not {"torch", "qtpy", "napari"} & set(sys.modules)
from napari_focusfuse.fusion import available_methods, choose_planes, method_info, plan_fusion
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import Region
slide = ArraySlide(np.zeros((3, 900, 900, 3), np.uint8))
info = method_info("pyramid")
available_methods()
plan = plan_fusion(slide, info, choose_planes(slide, info, "three"), 0, Region(0, 0, 900, 900))
assert len(plan.tiles) > 1
napari_focusfuse.fuse, napari_focusfuse.open_slide, napari_focusfuse.write_image
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
