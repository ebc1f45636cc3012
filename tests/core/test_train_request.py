from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_slide import Drawn
from napari_focusfuse.benchmark_definition import data_set
from napari_focusfuse.fusion.catalogue import method_info
from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.model_card import ModelError, shipped_models
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import SlideSource, TrainingRun
from napari_focusfuse.widgets.fuse_request import method_choices
from napari_focusfuse.widgets.known_runs import known_runs, let_go_on, may_go_on, remember
from napari_focusfuse.widgets.run_log import (
    POINTS,
    READ_BYTES,
    Curve,
    RunLog,
    describe_run,
    log_ticks,
    running_mean,
)
from napari_focusfuse.widgets.train_estimate import disk_bytes, estimate, training_seconds
from napari_focusfuse.widgets.train_request import (
    SlideOffer,
    TrainRequest,
    blur_models,
    create_run,
    free_folder,
    offered_recipes,
    setting_fields,
    with_settings,
)

CONFIG = TrainingConfig("tiny", "Tiny", "swift", {"planes": 3, "width": 40}, steps=400, patch=192)


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    made = TrainingRun(tmp_path / "run")
    made.create(CONFIG)
    return made


# ---------------------------------------------------------------------- slides


def test_a_slide_says_what_it_has_to_learn_from() -> None:
    offer = SlideOffer.of(Drawn(planes=3, z_um=(-2.7, 0.0, 2.7), extended=True))
    assert offer.text == "3 focus layers, 2.7 µm apart · extended focus"
    assert [key for key, _ in offer.references] == ["extended", "fusion:evidence"]
    assert [offer.problem(what) for what in ("one", "three", "blur")] == ["", "", ""]


def test_a_slide_of_one_layer_teaches_one_layer_only() -> None:
    offer = SlideOffer.of(Drawn(planes=1))
    assert offer.text == "1 focus layer · no extended focus"
    assert offer.references == ()
    assert not offer.problem("one")
    assert offer.problem("three") == "drawn.ome.tif has 1 of the 3 focus layers that it takes."


# ---------------------------------------------------------------------- recipes and settings


def test_recipes_are_offered_by_what_they_train_the_recommended_first() -> None:
    first = {what: offered_recipes(what)[0].name for what in ("one", "three", "blur")}
    assert first == {"one": "swift-single", "three": "swift-three", "blur": "small-blur"}
    assert {config.planes for config in offered_recipes("three")} == {3}
    assert {config.task for config in offered_recipes("blur")} == {"segment"}
    assert {config.task for config in offered_recipes("one")} == {"fuse"}


def test_models_of_the_recipes_makers_are_replaced_by_shipped_ones() -> None:
    tuned = {config.name: config for config in offered_recipes("three")}["swift-three-adversarial"]
    assert Path(tuned.start) == shipped_models()["swift-three"]
    configs = {config.name: config for config in offered_recipes("one")}
    assert configs["paper-single"].blur_model == "small-blur"


def test_blur_models_are_the_runs_own_then_the_shipped(run: TrainingRun) -> None:
    run.best.write_bytes(shipped_models()["small-blur"].read_bytes())
    (run.folder.parent / "fusing").mkdir()
    fusing = TrainingRun(run.folder.parent / "fusing")
    fusing.best.write_bytes(shipped_models()["swift-single"].read_bytes())
    found = blur_models([fusing.folder, run.folder])
    assert list(found) == [str(run.best), "small-blur", "paper-blur-w16"]
    assert found[str(run.best)].endswith("(run)")


def test_settings_are_the_configs_fields_those_of_tables_one_by_one() -> None:
    fields = {field.key: field for field in setting_fields(CONFIG)}
    assert fields["network.width"].value == 40
    assert fields["schedule"].choices == ("cosine", "epochs", "linear", "constant")
    assert fields["learning_rate"].help == "Adam's step size at its highest"
    assert "network" not in fields
    assert fields["patches_per_slide"].title == "patches per slide"


def test_changed_settings_make_a_checked_recipe() -> None:
    changed = with_settings(CONFIG, {"steps": 7, "network.width": 8})
    assert (changed.steps, changed.network["width"], changed.planes) == (7, 8, 3)
    assert with_settings(CONFIG, {}) == CONFIG
    with pytest.raises(RecipeError, match="patch = 7 "):
        with_settings(CONFIG, {"patch": 7})


# ---------------------------------------------------------------------- the run


def test_a_run_from_slides_simulates_nothing(tmp_path: Path) -> None:
    slides = (SlideSource(tmp_path / "a.mrxs"),)
    config = replace(CONFIG, data_set="cric")
    run = create_run(TrainRequest(config, slides, None, tmp_path / "run"))
    assert run.config().data_set == ""
    assert run.data().slides == slides


def test_a_folder_of_own_images_is_told_from_the_recipes_data_set(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    own = create_run(TrainRequest(CONFIG, (), images, tmp_path / "own"))
    assert own.config().data_set == "images"
    assert own.data().images == images
    for part in ("train", "validation"):
        for name in data_set("cric").images[part]:
            (images / name).touch()
    known = create_run(TrainRequest(CONFIG, (), images, tmp_path / "known"))
    assert known.config().data_set == "cric"


def test_a_run_needs_something_to_learn_from_and_a_folder_of_its_own(run: TrainingRun) -> None:
    with pytest.raises(RecipeError, match="nothing to learn from"):
        create_run(TrainRequest(CONFIG, (), None, run.folder / "new"))
    slides = (SlideSource(run.folder / "a.mrxs"),)
    with pytest.raises(RecipeError, match="holds a run already"):
        create_run(TrainRequest(CONFIG, slides, None, run.folder))
    assert free_folder(run.folder.parent, "run").name == "run-2"
    assert free_folder(run.folder.parent, "new").name == "new"


# ---------------------------------------------------------------------- estimates


def test_disk_grows_with_slides_and_stacks_up_to_the_bound() -> None:
    small = replace(CONFIG, stacks=10, degraded=0, stack_px=96, patches_per_slide=10, patch=112)
    bare = disk_bytes(small, 0, images=False)
    assert disk_bytes(small, 0, images=True) - bare == 10 * 96**2 * 18
    assert disk_bytes(small, 2, images=False) - bare == 2 * 10 * 112**2 * 18
    assert disk_bytes(replace(small, cache_gb=0.001), 50, images=True) - bare == 1e6


def test_time_is_said_only_where_it_was_measured() -> None:
    assert training_seconds(CONFIG, "cuda") is None
    assert training_seconds(replace(CONFIG, architecture="generator"), "cpu") is None
    seconds = training_seconds(CONFIG, "cpu")
    twice = training_seconds(replace(CONFIG, steps=800), "cpu")
    assert seconds is not None
    assert twice == pytest.approx(2 * seconds)
    assert "time unknown until it runs" in estimate(CONFIG, "mps", 1, images=False)
    assert "about " in estimate(CONFIG, "cpu", 1, images=False)


# ---------------------------------------------------------------------- the log as it grows


def log_steps(run: TrainingRun, *steps: int, begun: float = 0.0) -> None:
    for step in steps:
        run.log({"step": step, "loss": 1.0 / step, "seconds": begun + step * 0.5})


def test_a_log_is_read_as_it_grows(run: TrainingRun) -> None:
    log = RunLog(run)
    assert not log.read_on()
    run.log({"step": 0, "event": "started", "text": "go"})
    log_steps(run, 50, 100)
    run.log({"step": 100, "validation": {"error": 0.1, "ssim": 0.9, "input_ssim": 0.8}})
    assert log.read_on()
    assert not log.read_on()
    assert log.loss.points() == ([50, 100], [0.02, 0.01])
    assert log.preview_steps() == [100]
    assert (log.step, log.sessions, log.seconds_left()) == (100, 1, 150.0)
    assert describe_run(log) == "step 100 of 400 · SSIM 0.9000 (untouched 0.8000)"
    assert log.preview(100).name == "0000100.png"


def test_half_a_line_waits_for_its_other_half(run: TrainingRun) -> None:
    log, text = RunLog(run), json.dumps({"step": 1, "loss": 2.0, "seconds": 1.0}) + "\n"
    with run.log_file.open("w") as file:
        file.write(text[:9])
        file.flush()
        assert not log.read_on()
        file.write(text[9:])
    assert log.read_on()
    assert log.loss.values == [2.0]


def test_a_long_log_is_read_in_parts(run: TrainingRun) -> None:
    line = json.dumps({"step": 1, "loss": 2.0, "seconds": 1.0, "pad": "x" * 1000}) + "\n"
    run.log_file.write_text(line * 300)
    log, reads = RunLog(run), 0
    while log.read_on():
        reads += 1
    assert reads == -(-len(line) * 300 // READ_BYTES)
    assert len(log.loss.steps) == 300


def test_damage_in_a_log_is_skipped(run: TrainingRun) -> None:
    run.log_file.write_bytes(b"\xff\x00" * READ_BYTES + b"\n" + b'{"step": "x"}\n{"step": 3}\n[]\n')
    log_steps(run, 5)
    log = RunLog(run)
    while log.read_on():
        pass
    assert (log.step, log.loss.steps) == (5, [5])


def test_a_run_that_went_on_from_a_checkpoint_draws_no_loop(run: TrainingRun) -> None:
    run.log({"step": 0, "event": "started", "text": ""})
    log_steps(run, 50, 100, 150)
    run.log({"step": 100, "event": "resumed", "text": ""})
    log_steps(run, 150)
    log = RunLog(run)
    log.read_on()
    assert log.loss.steps == [50, 100, 150]
    assert log.sessions == 2
    assert log.seconds_left() is None, "the pace of the session before does not count"


def test_blur_models_are_judged_by_iou(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path)
    run.create(replace(CONFIG, architecture="small-blur"))
    run.log({"step": 5, "validation": {"error": 0.4, "iou": 0.7}})
    log = RunLog(run)
    log.read_on()
    assert (log.score_title, log.score.values) == ("IoU", [0.7])


def test_a_curve_is_thinned_and_keeps_its_end() -> None:
    curve = Curve()
    for step in range(10 * POINTS + 7):
        curve.add(step, float(step))
    steps, values = curve.points()
    assert POINTS <= len(steps) <= POINTS + 2
    assert (steps[-1], values[-1]) == (10 * POINTS + 6, 10 * POINTS + 6.0)
    assert Curve().points() == ([], [])


def test_the_running_mean_keeps_a_constant_and_halves_noise() -> None:
    assert np.allclose(running_mean(np.full(100, 3.0)), 3.0)
    noise = np.random.default_rng(0).normal(size=200)
    assert running_mean(noise).std() < 0.5 * noise.std()


@pytest.mark.parametrize(
    ("span", "ticks"),
    [((0.008, 0.07), [0.01, 0.02, 0.05]), ((0.021, 0.023), [0.02]), ((1e-6, 1.0), None)],
)
def test_a_logarithmic_axis_has_few_round_ticks(
    span: tuple[float, float], ticks: list[float] | None
) -> None:
    found = log_ticks(*span)
    assert 1 <= len(found) <= 4
    assert ticks is None or found == pytest.approx(ticks)


# ---------------------------------------------------------------------- what is remembered


def test_runs_are_remembered_the_last_one_first(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOCUSFUSE_STATE_DIR", str(tmp_path / "state"))
    other = TrainingRun(tmp_path / "other")
    other.create(CONFIG)
    for folder in (run.folder, other.folder, tmp_path / "gone"):
        remember(folder)
    assert known_runs() == [other.folder, run.folder]
    remember(run.folder)
    assert known_runs() == [run.folder, other.folder]
    assert not may_go_on(run.folder)
    let_go_on(run.folder)
    assert may_go_on(run.folder)
    assert not may_go_on(other.folder)


def test_a_damaged_list_of_runs_is_no_obstacle(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOCUSFUSE_STATE_DIR", str(tmp_path))
    (tmp_path / "runs.json").write_text('{"runs": 7')
    assert known_runs() == []
    remember(run.folder)
    assert known_runs() == [run.folder]


# ---------------------------------------------------------------------- a model file as a method


def test_a_model_file_is_an_entry_of_its_own(tmp_path: Path) -> None:
    model = tmp_path / "my-run" / "best.safetensors"
    model.parent.mkdir()
    model.write_bytes(shipped_models()["swift-three"].read_bytes())
    *_, entry = method_choices((ARGMAX,), [model])
    assert (entry.name, entry.planes) == (str(model), ("three",))
    assert entry.title == "Swift, three layers (my-run)"
    assert entry.advice == method_info("swift-three").advice


def test_a_blur_model_is_no_method() -> None:
    with pytest.raises(ModelError, match="does not fuse"):
        method_choices((), [shipped_models()["small-blur"]])


def test_the_tab_needs_neither_torch_nor_the_trainer() -> None:
    code = (
        "import sys, napari_focusfuse.widgets.train_tab; "
        "from napari_focusfuse.widgets.train_request import offered_recipes as offered; "
        "offered('one'); "
        "print(*{'torch', 'focusfuse_training', 'pyqtgraph'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
