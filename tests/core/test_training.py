"""The trainer on small drawn images: two steps, resuming, recipes, and what it may import."""

import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from focusfuse_training.__main__ import main
from focusfuse_training.controls import fit_threshold, non_local_means, sharpness
from focusfuse_training.losses import ssim
from focusfuse_training.masks import Confusion
from focusfuse_training.schedule import learning_rate
from focusfuse_training.trainer import train
from napari_focusfuse.defocus import gaussian_blur
from napari_focusfuse.metrics import ssim_paper
from napari_focusfuse.model_card import read_card
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import TrainingData, TrainingRun
from napari_focusfuse.weights import load_model
from training_files import arguments, draw_images, write_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "training" / "recipes").glob("*.toml"))
ALLOWED = ("napari-focusfuse", "torch", "numpy", "pillow", "safetensors", "lightning-fabric")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def recipe(folder: Path, images: Path, **changes: object) -> Path:
    return write_recipe(folder / "recipe.toml", images, **changes)


def allowed_distributions() -> set[str]:
    """The trainer's dependencies with all of theirs; this project's own are named in ALLOWED."""
    found, waiting = {"napari-focusfuse"}, [n for n in ALLOWED if n != "napari-focusfuse"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needed = [Requirement(line) for line in requires(name) or []]
            waiting += [
                r.name.lower()
                for r in needed
                if r.marker is None or r.marker.evaluate({"extra": ""})
            ]
    return found


@pytest.mark.slow
def test_two_steps_where_nothing_but_the_trainers_own_dependencies_exists(
    images: Path, tmp_path: Path
) -> None:
    allowed = allowed_distributions()
    blocked = sorted(
        module
        for module, distributions in packages_distributions().items()
        if not any(name.lower().replace("_", "-") in allowed for name in distributions)
    )
    assert {"napari", "tifffile", "openslide", "zarr", "qtpy", "scipy"} <= set(blocked)
    code = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        "from focusfuse_training.__main__ import main\n"
        f"sys.exit(main({arguments(recipe(tmp_path, images), images, tmp_path / 'run')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    network, card = load_model(tmp_path / "run" / "best.safetensors")
    assert card.training["steps_done"] in (1, 2)
    assert card.halo == network.reach
    assert len(list((images / "cache" / "drawn-train").glob("*.stack.safetensors"))) == 2, (
        "stacks stay in the cache"
    )


@dataclass(frozen=True)
class StoppedAfterTwoSteps(TrainingRun):
    """A run that somebody stops while it is under way."""

    asked: list[None] = field(default_factory=list)

    def stop_requested(self) -> bool:
        self.asked.append(None)
        return len(self.asked) > 2


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(images: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, images, steps=4, validate_every=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(path, images, whole)) == 0
    stopped = StoppedAfterTwoSteps(parts)
    stopped.create(TrainingConfig.read(path), TrainingData(images, cache=images / "cache"))
    train(stopped, device="cpu")
    assert stopped.state.exists()
    assert not stopped.last.exists()
    assert main(arguments(path, images, parts)) == 0
    hashes = {read_card(folder / "last.safetensors").sha256 for folder in (whole, parts)}
    assert len(hashes) == 1


def test_a_run_keeps_its_recipe(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = TrainingRun(tmp_path / "run")
    run.create(TrainingConfig.read(recipe(tmp_path, images)))
    assert main(arguments(recipe(tmp_path, images, steps=9), images, run.folder)) == 4
    assert "holds a run of another recipe" in capsys.readouterr().err


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_read_and_written_without_loss(path: Path, tmp_path: Path) -> None:
    config = TrainingConfig.read(path)
    assert config.name == path.stem
    copy = tmp_path / "copy.toml"
    copy.write_text(config.to_toml())
    assert TrainingConfig.read(copy) == config


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stepz = 3", "sets stepz, which is unknown"),
        ("steps = 0", "steps = 0 in the recipe must be 1 or more"),
        ('steps = "many"', "must be of type int"),
        ("patch = 33", "multiple of 16"),
        ("steps = ", "cannot be read"),
    ],
)
def test_a_wrong_recipe_is_explained(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "a"\ntitle = "A"\narchitecture = "swift"\n{line}\n')
    with pytest.raises(RecipeError, match=message):
        TrainingConfig.read(path)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    config = TrainingConfig("a", "A", "swift", steps=1000, learning_rate=0.5)
    rates = [learning_rate(config, step, 0.0) for step in range(1001)]
    assert max(rates) == 0.5
    assert int(np.argmax(rates)) in (199, 200)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_metric() -> None:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    other = to_uint8(gaussian_blur(grey.astype(np.float32), 0.7) / 255)
    tensors = [torch.from_numpy(i).permute(2, 0, 1)[None].float() / 255 for i in (grey, other)]
    # The metric counts the pixels whose window lies inside, as the loss does.
    assert float(ssim(*tensors)) == pytest.approx(ssim_paper(grey, other, border=5), abs=1e-3)


def test_controls_denoise_and_tell_sharp_from_blurred() -> None:
    rng = np.random.default_rng(2)
    clean = np.full((64, 64, 3), 120, dtype=np.uint8)
    noisy = to_uint8((clean + rng.normal(0, 6, clean.shape)).astype(np.float32) / 255)
    assert non_local_means(noisy, 6.0).std() < 0.5 * noisy.std()
    texture = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    blurred = texture.copy()
    blurred[:, :64] = to_uint8(gaussian_blur(texture.astype(np.float32), 3.0)[:, :64] / 255)
    truth = np.zeros((128, 128), dtype=bool)
    truth[:, :64] = True
    threshold = fit_threshold([blurred], [truth])
    assert Confusion.of(sharpness(blurred) < threshold, truth).iou > 0.8


def test_mask_counts_add_up_over_images() -> None:
    mask, truth = np.array([[True, True, False, False]]), np.array([[True, False, True, False]])
    both = Confusion.of(mask, truth) + Confusion.of(mask, truth, where=truth)
    assert both == Confusion(hits=2, false_alarms=1, misses=2, rejections=1)
    assert (both.iou, both.precision, both.recall) == (2 / 5, 2 / 3, 2 / 4)
    assert both.iou_sharp == 1 / 4
