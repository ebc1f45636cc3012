from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QMessageBox

from event_loop import settle, wait_until
from fused_view import fuse
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.model_card import read_card, shipped_models
from napari_focusfuse.training_config import TrainingConfig
from napari_focusfuse.training_run import TrainingRun
from napari_focusfuse.widgets.known_runs import known_runs, may_go_on, remember
from napari_focusfuse.widgets.training_job import _CHILDREN

TINY: dict[str, Any] = {
    "steps": 100_000,
    "batch": 1,
    "patch": 64,
    "validate_every": 4,
    "log_every": 2,
    "warm_up": 0,
    "patches_per_slide": 6,
    "network.width": 4,
}
LONG = 120.0
"""Seconds the real trainer may take to start on a busy machine."""


@pytest.fixture(autouse=True)
def own_list_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOCUSFUSE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def tab(window: Any, open_dock: Callable[[], Any]) -> Iterator[Any]:
    """The Train tab with the sample open; whatever trains is ended with the test."""
    window.open_sample("napari-focusfuse", "synthetic_smear")
    yield shown(open_dock())
    for folder in known_runs():
        end(TrainingRun(folder))


def shown(dock: Any) -> Any:
    dock.choose_tab("Train")
    wait_until(lambda: dock.train_tab.ready)
    settle()
    return dock.train_tab


def end(run: TrainingRun) -> None:
    child = _CHILDREN.pop(run.folder, None)
    if child is not None:
        child.kill()
        child.wait()
    owner = run.owner()
    if owner is not None:
        os.kill(owner, signal.SIGTERM)


def written(folder: Path, **settings: object) -> TrainingRun:
    """A run as the trainer leaves it half way: the log is what the window reads."""
    run = TrainingRun(folder)
    config = TrainingConfig("tiny", "Tiny", "swift", {"planes": 1}, steps=400)
    run.create(config)
    run.log({"step": 0, "event": "started", "text": "go"})
    for step in range(50, 250, 50):
        run.log({"step": step, "loss": 1 / step, "seconds": step / 10, "images_per_s": 12.0})
    run.log({"step": 200, "validation": {"error": 0.1, "ssim": 0.9, "input_ssim": 0.8}})
    return run


def set_fields(form: Any, values: dict[str, Any]) -> None:
    form.advanced.expand(False)
    wait_until(lambda: set(values) <= set(form.settings.editors))
    for key, value in values.items():
        form.settings.editors[key].setValue(value)
    form.settings.editors["start"].setText("")
    form.settings.editors["start"].editingFinished.emit()


# ---------------------------------------------------------------------- the form


def test_the_form_offers_the_open_slide_and_says_what_it_will_take(tab: Any) -> None:
    form = tab.form
    (row,) = form.slides.rows()
    assert row.offer.path.name == "smear.ome.tif"
    assert row.offer.text == "11 focus layers, 2.7 µm apart · extended focus"
    assert row.source().reference == "extended"
    assert form.button.isEnabled()
    assert form.estimate.plain.startswith("5,000 steps · about ")
    assert "at most 1.3 GB of disk" in form.estimate.plain
    row.box.setChecked(False)
    assert not form.button.isEnabled()
    assert "folder of sharp images" in form.estimate.plain


def test_recipes_follow_what_is_trained_and_masks_need_a_blur_model(tab: Any) -> None:
    form = tab.form
    form.choose("three", "paper-three")
    assert form.recipe.name == "paper-three"
    assert form.blur_box.isVisible()
    assert form.config().blur_model == "small-blur"
    form.choose("blur")
    assert form.recipe.name == "small-blur"
    assert not form.blur_box.isVisible()


def test_the_fold_holds_every_setting_and_changes_the_recipe(tab: Any) -> None:
    form = tab.form
    set_fields(form, {"steps": 12, "network.width": 8})
    wait_until(lambda: "tensorboard" in form.settings.editors)
    editors = form.settings.editors
    assert editors["schedule"].currentData() == "cosine"
    assert editors["learning_rate"].toolTip() == "Adam's step size at its highest"
    editors["learning_rate"].setText("5e-05")
    editors["tensorboard"].setChecked(True)
    config = form.config()
    assert (config.steps, config.network["width"]) == (12, 8)
    assert (config.learning_rate, config.tensorboard, config.start) == (5e-5, True, "")
    editors["patch"].setValue(100)
    assert form.estimate.plain == "patch = 100 in the recipe must be a multiple of 16."
    assert not form.button.isEnabled()


def test_a_slide_is_added_from_its_file_and_may_have_its_truth_in_another(
    tab: Any, tmp_path: Path
) -> None:
    algae = tab.form.slides.rows()[0].offer.path.with_name("algae.ome.tif")
    tab.form.slides.add_files([algae])
    wait_until(lambda: len(tab.form.slides.rows()) == 2)
    row = tab.form.slides.rows()[1]
    assert row.source().reference == "fusion:evidence"
    row.choose_file(tmp_path / "export.png")
    assert row.source().reference == str(tmp_path / "export.png")
    tab.form.slides.add_files([tmp_path / "none.tif"])
    wait_until(lambda: "none.tif" in tab.form.slides.message.plain)


# ---------------------------------------------------------------------- a run that is watched


def test_a_run_is_found_again_and_one_that_died_says_why(
    window: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    run = written(tmp_path / "run")
    run.text_log.write_text("first\nThe disk is full.\n")
    remember(run.folder)
    tab = shown(open_dock())
    wait_until(lambda: bool(tab.job.last_words))
    assert (tab.job.state, tab.job.ending) == ("ended", "failed")
    said = tab.progress.status.plain
    assert "step 200 of 400 · SSIM 0.9000 (untouched 0.8000)" in said
    assert "Training failed: The disk is full." in said
    assert str(run.text_log) in said
    assert tab.progress.stop_button.text() == "Resume"
    assert tab.run_box.currentText() == "run"


def test_a_run_of_another_process_is_followed_as_it_goes(tab: Any, tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    run.acquire()  # as if this process trained
    assert tab.job.open(run.folder)
    wait_until(lambda: tab.progress.plots.ready)
    assert tab.job.state == "running"
    assert "about 20 s left" in tab.progress.bar.format()
    run.log({"step": 300, "loss": 0.001, "seconds": 30.0})
    wait_until(lambda: tab.progress.bar.value() == 300)
    steps, _ = tab.progress.plots.loss_curve.getOriginalDataset()
    assert list(steps) == [50, 100, 150, 200, 300]
    tab.progress.stop_button.click()
    assert run.stop_requested()
    run.log({"step": 300, "event": "stopped", "text": ""})
    run.release()
    wait_until(lambda: tab.job.state == "ended")
    assert "stopped" in tab.progress.bar.format()
    assert not tab.job.open(tmp_path)
    assert "holds no run" in tab.job.error


@pytest.mark.parametrize("answer", ["Continue", "Stop training"])
def test_closing_napari_asks_once_whether_training_goes_on(
    tab: Any, tmp_path: Path, answer: str
) -> None:
    run = written(tmp_path / "run")
    run.acquire()
    tab.job.open(run.folder)
    asked: list[str] = []

    def reply() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        asked.append(box.text())
        next(button for button in box.buttons() if button.text() == answer).click()

    QTimer.singleShot(200, reply)
    tab.eventFilter(tab.window(), QCloseEvent())
    tab.eventFilter(tab.window(), QCloseEvent())
    run.release()
    assert asked == [
        "Training goes on without the window. Open FocusFuse again to see how far it is."
    ]
    assert run.stop_requested() == (answer != "Continue")
    assert may_go_on(run.folder) == (answer == "Continue")


def test_a_blur_model_makes_the_mask_of_the_next_fusion(
    tab: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    model = tmp_path / "best.safetensors"
    model.write_bytes(shipped_models()["small-blur"].read_bytes())
    tab.use_model(model)
    dock = open_dock()
    assert dock.job.mask_model == model
    dock.choose_tab("Fuse")
    fuse(dock, seconds=LONG)
    assert dock.job.mask is not None


# ---------------------------------------------------------------------- the real thing


@pytest.mark.slow
def test_train_watch_stop_resume_and_use_the_model(
    window: Any, tab: Any, open_dock: Callable[[], Any], tmp_path: Path
) -> None:
    form, job = tab.form, tab.job
    set_fields(form, TINY)
    form.folder_line.setText(str(tmp_path / "run"))
    form.device_box.setCurrentIndex(form.device_box.findData("cpu"))
    form.button.click()
    wait_until(lambda: job.log is not None and len(job.log.preview_steps()) >= 2, LONG)
    wait_until(lambda: tab.progress.plots.ready)
    settle()
    assert job.state == "running"
    wait_until(lambda: tab.progress.slider.maximum() >= 1)
    latest = tab.progress.picture.pixmap().toImage()
    tab.progress.slider.setValue(0)
    assert tab.progress.step_label.text() == "step 4"
    assert tab.progress.picture.pixmap().toImage() != latest, "the patches sharpen"
    tab.progress.layer_button.click()
    assert window.layers[-1].name.endswith("step 4")
    assert window.layers[-1].data.shape[1] == 3 * 256

    tab.progress.stop_button.click()
    wait_until(lambda: job.state == "ended", LONG)
    assert (job.ending, job.last_words) == ("stopped", "")
    stopped_at = job.log.step

    tab.progress.stop_button.click()
    wait_until(lambda: job.log.step > stopped_at + 4, LONG)
    assert job.log.event == "resumed"
    window.window.remove_dock_widget("all")
    settle()
    again = shown(open_dock())
    wait_until(lambda: again.job.state == "running")
    again.progress.stop_button.click()
    wait_until(lambda: again.job.state == "ended", LONG)

    again.progress.use_button.click()
    best = tmp_path / "run" / "best.safetensors"
    dock = open_dock()
    assert dock.header.method == str(best)
    assert dock.header.method_box.currentText() == "Swift, one layer (run)"
    dock.choose_tab("Fuse")
    provenance = fuse(dock, str(best), LONG).metadata[KEY]["provenance"]
    assert provenance["model_file"] == "best.safetensors"
    assert provenance["model_sha256"] == read_card(best).sha256
