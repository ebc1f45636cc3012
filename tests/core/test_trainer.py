"""What happens to a training: killed, stopped, out of memory, out of disk, in several processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from focusfuse_training.__main__ import main
from napari_focusfuse.model_card import read_card
from napari_focusfuse.models import build
from napari_focusfuse.training_config import TrainingConfig, recipes
from napari_focusfuse.training_run import TrainingData, TrainingRun
from napari_focusfuse.weights import load_model, save_model
from training_files import arguments, draw_images, tiny_config, trainer, write_recipe

resource = pytest.importorskip("resource", reason="signals and limits of POSIX")


SIDE_PX = 160
"""Of the patches memory does not suffice for."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in TrainingRun(run).records() if "loss" in record]


def events(run: Path) -> list[str]:
    return [record["event"] for record in TrainingRun(run).records() if "event" in record]


def wait_for(process: subprocess.Popen[str], run: TrainingRun, step: int) -> None:
    """Wait until the log has come to a step."""
    while not any(record.get("step", 0) >= step for record in run.records()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_anywhere_and_resumed_it_ends_in_the_same_weights(
    images: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "r.toml", images, steps=14, validate_every=4)
    assert main(arguments(recipe, images, tmp_path / "whole")) == 0
    killed = TrainingRun(tmp_path / "killed")
    with trainer(*arguments(recipe, images, killed.folder)) as process:
        wait_for(process, killed, 6)
        process.kill()
    assert killed.status().state == "failed"
    assert killed.owner() is None, "the lock of a dead process does not count"
    assert main([str(killed.folder), "--device", "cpu"]) == 0
    assert events(killed.folder)[-2:] == ["resumed", "finished"]
    assert killed.status().state == "finished"
    hashes = {read_card(tmp_path / n / "last.safetensors").sha256 for n in ("whole", "killed")}
    assert len(hashes) == 1


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_doubled_batch(
    images: Path, tmp_path: Path
) -> None:
    one = write_recipe(tmp_path / "one.toml", images, batch=4, steps=4)
    two = write_recipe(tmp_path / "two.toml", images, batch=2, devices=2, strategy="ddp", steps=4)
    assert main(arguments(one, images, tmp_path / "one")) == 0
    with trainer(*arguments(two, images, tmp_path / "two")) as process:
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert len(losses(tmp_path / "two")) == 4


@pytest.mark.slow
def test_a_killed_process_of_two_ends_the_other_and_the_run_goes_on(
    images: Path, tmp_path: Path
) -> None:
    psutil = pytest.importorskip("psutil")
    recipe = write_recipe(
        tmp_path / "r.toml",
        images,
        steps=10**6,
        validate_every=5,
        devices=2,
        strategy="ddp",
    )
    run = TrainingRun(tmp_path / "run")
    with trainer(*arguments(recipe, images, run.folder)) as process:
        wait_for(process, run, 6)
        (other,) = psutil.Process(process.pid).children()
        other.kill()
        assert process.wait(timeout=15) != 0
    assert run.owner() is None
    before = max(record.get("step", 0) for record in run.records())
    with trainer(str(run.folder), "--device", "cpu") as again:
        wait_for(again, run, before + 1)
        run.request_stop()
        assert again.wait(timeout=30) == 0
    assert events(run.folder)[-2:] == ["resumed", "stopped"]


def test_a_loss_that_is_no_number_ends_training_and_spoils_nothing(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(images)
    network = build("swift", dict(config.network))
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1e30)
    card = read_card(next((Path(__file__).parents[2] / "src").rglob("swift-single.safetensors")))
    huge = tmp_path / "huge.safetensors"
    settings = {**vars(card), "config": dict(config.network), "halo": int(network.reach)}
    save_model(huge, network, type(card)(**settings))
    recipe = write_recipe(tmp_path / "r.toml", images, start=str(huge), steps=50)
    assert main(arguments(recipe, images, tmp_path / "run")) == 4
    assert "The loss was no number for 5 steps" in capsys.readouterr().err
    assert events(tmp_path / "run") == ["started", *["bad loss"] * 5, "failed"]


@pytest.mark.slow
def test_memory_that_runs_out_halves_the_batch(images: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path / "r.toml",
        images,
        batch=64,
        patch=SIDE_PX,
        stack_px=SIDE_PX,
        network={"planes": 1, "width": 64, "quarter_blocks": 1},
    )
    words = arguments(recipe, images, tmp_path / "run")
    code = (
        "import resource, sys, torch\n"
        "from focusfuse_training.__main__ import main\n"
        "torch.set_num_threads(1)\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (900 << 20),) * 2)\n"
        f"sys.exit(main({words!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = events(tmp_path / "run")
    assert found[0] == "started"
    assert found[-1] == "finished"
    assert 1 <= found.count("smaller batch") <= 6


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_states_stay_whole(
    images: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "r.toml", images, steps=4)
    assert main(arguments(recipe, images, tmp_path / "run")) == 0
    run = TrainingRun(tmp_path / "run")
    whole = run.state.read_bytes()
    longer = tiny_config(images, steps=8)
    run.config_file.write_text(longer.to_toml())
    size = len(whole) // 2

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    with trainer(str(run.folder), "--device", "cpu", preexec_fn=limit) as process:
        said = process.communicate()[1]
    assert process.returncode == 5, said
    assert "Traceback" not in said
    assert "cannot be written" in said.splitlines()[-1]
    assert whole in (run.state.read_bytes(), run.previous_state.read_bytes())


def test_a_damaged_state_gives_way_to_the_one_before(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "r.toml", images, steps=3)
    words = arguments(recipe, images, tmp_path / "run")
    assert main(words) == 0
    run = TrainingRun(tmp_path / "run")
    first = read_card(run.last).sha256
    run.state.write_bytes(run.state.read_bytes()[:-100])
    assert main(words) == 0
    assert read_card(run.last).sha256 == first
    for path in (run.state, run.previous_state):
        path.write_bytes(b"no tensors")
    assert main(words) == 5
    assert "are damaged" in capsys.readouterr().err


def test_one_folder_has_one_trainer(images: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.toml", images)
    run = TrainingRun(tmp_path / "run")
    run.create(TrainingConfig.read(recipe), TrainingData(images))
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        run.acquire()
        lock = json.loads(run.lock_file.read_text())
        start = Path(f"/proc/{sleeper.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        run.lock_file.write_text(json.dumps({**lock, "pid": sleeper.pid, "start": start}))
        assert run.status().state == "running"
        assert main(arguments(recipe, images, run.folder)) == 5
        run.lock_file.write_text(json.dumps({**lock, "pid": sleeper.pid, "start": "1"}))
        assert run.owner() is None, "another process has the number now"
    finally:
        sleeper.kill()
        sleeper.wait()
    assert run.owner() is None


SMALL = {
    "stacks": 1,
    "stack_px": 160,
    "steps": 2,
    "batch": 1,
    "patch": 64,
    "warm_up": 0,
    "adversary_from": 0,
    "validate_every": 2,
    "precision": "32-true",
    "start": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_trains(name: str, images: Path, tmp_path: Path) -> None:
    config = TrainingConfig.read(recipes()[name])
    changes = {**SMALL, "data_set": str(images / "drawn.toml"), "degraded": min(1, config.degraded)}
    changes["stacks"] = min(1, config.stacks)
    changes["network"] = {"width": 4} | ({"levels": 5} if "pix2pix" in name else {})
    if config.adversary:
        changes["discriminator"] = {"width": 4}
    if config.blur_model:
        changes["blur_model"] = "small-blur"
    small = tmp_path / "small.toml"
    small.write_text(TrainingConfig.read(recipes()[name], changes).to_toml())
    assert main(arguments(small, images, tmp_path / "run")) == 0
    run = TrainingRun(tmp_path / "run")
    network, card = load_model(run.last)
    assert card.training["steps_done"] == 2
    assert (card.blur_model is not None) == bool(config.blur_model)
    assert list(run.previews.glob("*.png"))
    fresh = build(config.architecture, dict(network.config.__dict__))
    assert os.path.getsize(run.last) > 0
    assert set(fresh.state_dict()) == set(network.state_dict())


def test_stop_ends_after_the_step_in_hand(images: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.toml", images, steps=10**6, validate_every=10**6)
    run = TrainingRun(tmp_path / "run")
    with trainer(*arguments(recipe, images, run.folder)) as process:
        wait_for(process, run, 2)
        run.request_stop()
        assert process.wait(timeout=30) == 0
    status = run.status()
    assert status.state == "stopped"
    assert run.state.exists()


def test_a_stop_asked_before_the_trainer_has_begun_is_heard(images: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.toml", images, steps=10**6)
    run = TrainingRun(tmp_path / "run")
    run.request_stop()
    assert main(arguments(recipe, images, run.folder)) == 0
    assert (run.status().state, run.status().step) == ("stopped", 0)
    assert run.stop_requested(), "it is for whoever starts a trainer to clear it"
