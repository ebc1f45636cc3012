"""The evaluation on small drawn images: what it writes, and that its numbers are the metrics'."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shell import run_process

from focusfuse_training import evaluate as program
from focusfuse_training.bars import bars
from focusfuse_training.benchmark_sets import BENCHMARK_SETS
from focusfuse_training.candidates import find_candidates
from focusfuse_training.evaluate import main
from focusfuse_training.figures import figures, inset
from focusfuse_training.masks import Confusion
from focusfuse_training.material import Extent, of_data_set, of_run, squares_in
from focusfuse_training.real_stack import RealStack
from focusfuse_training.restoration import RESTORATIONS
from focusfuse_training.scoring import Entry, Scorer, apply, classical, infer, oracle
from focusfuse_training.sharp_images import sharp_images
from focusfuse_training.stack import StackFile, TrainingStack
from focusfuse_training.summary import Condition, OtherImagesError, Spread
from focusfuse_training.tables import in_paper, tables
from focusfuse_training.task import Sample, Square, Task
from napari_focusfuse.benchmark_definition import DataError, data_set
from napari_focusfuse.fusion.catalogue import blur_companion, load_method, model_info
from napari_focusfuse.fusion.neural import load_neural
from napari_focusfuse.metrics import VARIANTS, score
from napari_focusfuse.model_card import ModelCard, read_card
from napari_focusfuse.models import build
from napari_focusfuse.training_run import TrainingData, TrainingRun
from napari_focusfuse.weights import load_model, save_model
from training_files import draw_images, tiny_config

OVERALL = {"about", "sharp", "bars", "calibration"}
"""What ``scores.json`` holds beside the conditions."""
GENERATOR = {"preset": "paper", "planes": 1, "width": 4}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, run once for all tests that look at it."""

    code: int
    images: Path
    models: Path
    out: Path

    @property
    def scores(self) -> dict:
        return json.loads((self.out / "scores.json").read_text())


def save(path: Path, architecture: str, config: dict, seed: int = 0, **card: object) -> ModelCard:
    """Write a network of random weights."""
    torch.manual_seed(seed)
    network = build(architecture, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    offsets = (-1, 0, 1) if config.get("planes") == 3 else (0,)
    facts = {
        "name": path.stem,
        "title": path.stem,
        "halo": int(network.reach),
        "multiple_of": int(network.multiple_of),
        "training": {"steps_done": 7, "recipe": {"seed": seed, "patch": 32}},
    }
    made = ModelCard(
        architecture=architecture, config=config, plane_offsets=offsets, **{**facts, **card}
    )
    return save_model(path, network, made)


def save_models(folder: Path) -> list[Path]:
    swift = {"width": 4, "quarter_blocks": 1}
    blur = save(folder / "blur.safetensors", "small-blur", {"width": 4, "blocks": 1})
    save(folder / "one.safetensors", "swift", {**swift, "planes": 1})
    save(folder / "three.safetensors", "swift", {**swift, "planes": 3})
    save(folder / "other" / "three.safetensors", "swift", {**swift, "planes": 3}, 1, name="three")
    save(folder / "plain.safetensors", "generator", {**GENERATOR, "mask": False})
    masked = {**GENERATOR, "mask": True}
    save(folder / "masked.safetensors", "generator", masked, blur_model=blur.sha256)
    names = ("one", "three", "other/three", "plain", "masked")
    return [folder / f"{name}.safetensors" for name in names]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "images").mkdir()
    images, out = draw_images(folder / "images"), folder / "out"
    words = [*map(str, save_models(folder / "models")), "small-blur"]
    drawn = str(images / "drawn.toml")
    words += ["--data", str(images), "--data-set", drawn, "--out", str(out)]
    code = main([*words, "--depths", "8", "--patches", "2", "--seeds", "2", "--jobs", "1"])
    return Evaluation(code, images, folder / "models", out)


@pytest.fixture(scope="module")
def elsewhere(done: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Another data set and a real stack beside the first, a few rows only, nothing drawn."""
    folder = tmp_path_factory.mktemp("elsewhere")
    models = [str(done.models / f"{name}.safetensors") for name in ("one", "three", "blur")]
    where = ["--data", str(done.images), "--data-set", str(done.images / "drawn.toml")]
    where += ["--unseen", f"{unseen_of(done.images)}={done.images}"]
    where += ["--stack", f"real={planes_in(folder)}", "--out", str(folder / "out")]
    extent = ["--depths", "4", "--seeds", "1", "--side", "144", "--patches", "1", "--jobs", "1"]
    code = main([*models, *where, *extent, "--methods", "argmax,evidence", "--no-figures"])
    return Evaluation(code, done.images, done.models, folder / "out")


def unseen_of(images: Path) -> Path:
    """A data set of the same test image and nothing else."""
    kept = (images / "drawn.toml").read_text().split("[test]")
    head = kept[0].split("[train]")[0] + "[train]\n[validation]\n[calibration]\n[test]"
    path = images / "other.toml"
    path.write_text(head + kept[1])
    return path


def planes_in(folder: Path) -> Path:
    """Five planes of one drawn stack, a picture each, at twice the size."""
    stack = BENCHMARK_SETS[0].stack(4.0, 0, 5, (96, 96))
    (folder / "planes").mkdir()
    for number, plane in enumerate(stack.planes):
        picture = Image.fromarray(plane.repeat(2, axis=0).repeat(2, axis=1))
        picture.save(folder / "planes" / f"plane_{number}.png")
    return folder / "planes"


def test_everything_is_written(done: Evaluation) -> None:
    assert done.code == 0
    names = {path.name for path in done.out.iterdir()}
    assert {"tables.md", "tables.csv", "index.html", "scores.json"} <= names
    assert {"curves-8-um-one-plane.png", "sheet-8-um-three-planes.jpg"} <= names
    text = (done.out / "tables.md").read_text()
    for part in ("Table 1", "Table 2", "Table 3", "Spread over training seeds", "Blur masks"):
        assert f"### {part}" in text
    assert "7 steps" in text
    assert "width 4" in text
    assert "test split, simulated defocus, seeds 0 to 1" in text
    assert "Command: `focusfuse evaluate" in text


def test_the_papers_names_stand_beside_ours(done: Evaluation) -> None:
    text = (done.out / "tables.md").read_text()
    for name in ("wavelet (WT)", "pyramid-plain (LPP)", "dtcwt-plain (DTCWT)"):
        assert f"| {name} |" in text
    assert in_paper("liu-cnn-seed1") == "liu-cnn-seed1 (CNN)"
    assert in_paper("pyramid") == "pyramid"


def test_the_page_needs_no_other_file(done: Evaluation) -> None:
    page = (done.out / "index.html").read_text()
    assert page.count("<img") == 4
    assert page.count('src="data:image/') == 4
    assert "://" not in page  # not "http", which base64 may spell by chance
    assert "<link" not in page


def test_numbers_are_those_of_the_metrics(done: Evaluation) -> None:
    material = of_data_set(str(done.images / "drawn.toml"), done.images, Extent((8.0,), 2, 2))
    tasks = material.conditions["8 um"]
    file = done.out / "one.safetensors"
    method, argmax = load_neural(model_info(file, read_card(file))), load_method("argmax", "cpu")
    values = []
    for task in tasks:
        sample, (square,) = task.render(), task.squares
        fused, truth = apply(method, sample.central(1)), sample.truth_one
        values.append(score(square.cut(fused), square.cut(truth)))
        chosen = apply(argmax, sample.planes)
    images = done.scores["8 um"]["images"]
    for metric in VARIANTS:
        assert images["one"][metric] == pytest.approx([v[metric] for v in values], abs=1e-6)
    expected = score(square.cut(chosen), square.cut(sample.truth_three))
    assert images["argmax"]["CC"][-1] == pytest.approx(expected["CC"], abs=1e-6)
    with (done.out / "tables.csv").open() as file_:
        rows = [r for r in csv.DictReader(file_) if (r["table"], r["row"]) == ("1", "one")]
    psnr = next(row for row in rows if row["metric"] == "PSNR")
    found = [v["PSNR"] for v in values]
    assert float(psnr["mean"]) == pytest.approx(np.mean(found), rel=1e-4)
    assert float(psnr["sd"]) == pytest.approx(np.std(found, ddof=1), rel=1e-3)


def test_the_catalogue_decides_which_classical_methods_are_judged(done: Evaluation) -> None:
    assert {info.name for info in classical()} <= set(done.scores["8 um"]["table"])
    assert "argmax" in {info.name for info in classical()}


def test_no_plane_is_nearer_the_truth_than_the_oracle(done: Evaluation) -> None:
    material = of_data_set(str(done.images / "drawn.toml"), done.images, Extent((8.0,), 2, 2))
    sample = material.conditions["8 um"][0].render()
    best = score(oracle(sample), sample.truth_three, 32)["SSIM-paper"]
    for plane in sample.planes:
        assert best > score(plane, sample.truth_three, 32)["SSIM-paper"]
    assert "oracle selection" not in (done.out / "tables.md").read_text().split("### Table 2")[0]


def test_generators_with_and_without_blur_model_are_paired(done: Evaluation) -> None:
    table = (done.out / "tables.md").read_text().split("### Table 3")[1].split("###")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["generator", "plain, without", "masked, with", "masked minus plain"]


def test_models_are_copied_as_float16_with_their_blur_model(done: Evaluation) -> None:
    masked = done.out / "masked.safetensors"
    card = read_card(masked)
    assert blur_companion(masked, card) == done.out / "blur.safetensors"
    assert card.blur_model != read_card(done.models / "blur.safetensors").sha256
    load_neural(model_info(masked, card))
    assert masked.stat().st_size < 0.7 * (done.models / "masked.safetensors").stat().st_size
    assert "table, 8 um" in card.scores["benchmark"]
    assert read_card(done.out / "small-blur.safetensors").scores["benchmark"]["masks, 8 um"]


def test_seeds_of_one_recipe_have_names_and_a_spread(done: Evaluation) -> None:
    table = done.scores["8 um"]["table"]
    assert {"three-seed0", "three-seed1"} <= set(table)
    assert load_model(done.out / "three-seed1.safetensors")[1].name == "three"
    assert "three, 2 seeds" in (done.out / "tables.md").read_text()


def test_a_blur_mask_is_counted_where_the_truth_is_known(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    blurred = np.full((64, 64), 255, dtype=np.uint8)
    blurred[:32], blurred[:8] = 0, 1
    path = tmp_path / "a.stack.safetensors"
    TrainingStack(stack, stack[0], stack[0], blurred).save(path)
    assert StackFile(path).shape == (64, 64)
    result = Scorer(find_candidates(["small-blur"]))(Task(path), None)
    assert result.blur.masks["all blurred"] == Confusion(hits=8 * 64, false_alarms=24 * 64)
    assert result.whole == {}


def test_a_run_brings_its_own_test_images(done: Evaluation, tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "run")
    run.create(tiny_config(done.images), TrainingData(images=done.images))
    material = of_run(run, Extent((4.0,), 2))
    assert "test split" in material.specimens
    assert [len(task.squares) for task in material.conditions["4 um"]] == [1, 1, 0, 0, 0]


def test_squares_are_spread_and_stay_inside() -> None:
    found = squares_in((1020, 1376), 32, 512, 3)
    assert len(set(found)) == 3
    assert min(square.x for square in found) == 32
    assert max(square.x for square in found) == 1376 - 32 - 512
    assert all(32 <= square.y <= 1020 - 32 - 512 for square in found)
    assert squares_in((512, 512), 0, 512, 4) == (Square(0, 0, 512),)


def test_what_has_no_value_is_left_out_and_what_is_infinite_stays() -> None:
    assert Spread.of([1.0, float("nan"), 3.0]) == Spread(2.0, np.sqrt(2.0), 2)
    assert Spread.of([1.0, float("inf")]).mean == float("inf")
    assert Spread.of([5.0]).deviation == 0


def test_the_zoom_shows_where_layer_0_is_worst() -> None:
    truth = np.zeros((128, 128, 3), dtype=np.uint8)
    layer = truth.copy()
    layer[40:56, 64:80] = 200
    assert inset(layer, truth) == (40, 64, 16)


def test_a_row_that_some_stack_does_not_allow_is_left_out() -> None:
    rows = [Entry("a", 1, Sample.layer0.fget), Entry("b", 3, oracle, "oracle")]  # type: ignore[attr-defined]
    result = Scorer([])(Task(np.full((96, 96, 3), 200, dtype=np.uint8), 4.0, 0), None)
    assert Condition.of("x", rows, [result]).rows == ()


def test_models_of_an_earlier_evaluation_join_those_of_the_same_images(done: Evaluation) -> None:
    material = of_data_set(str(done.images / "drawn.toml"), done.images, Extent((8.0,), 2, 2))
    scorer, earlier = Scorer([]), done.scores["8 um"]
    rows = [Entry("layer 0", 1, Sample.layer0.fget, "input")]  # type: ignore[attr-defined]
    scorer.rows = rows
    results = [scorer(task, None) for task in material.conditions["8 um"]]
    both = Condition.of("8 um", rows, results).beside(earlier)
    assert [row.name for row in both.rows][1:] == list(earlier["error_ratio"])
    assert both.spread("three-seed1", "CC").mean == pytest.approx(
        np.mean(earlier["images"]["three-seed1"]["CC"])
    )
    assert both.beside(earlier).rows == both.rows
    # Their pictures were not kept: the sheet shows the others.
    layer = np.zeros((64, 64, 3), dtype=np.uint8)
    pictured = replace(both, shown=({"layer 0": layer, "truth 1": layer + 9},))
    one = replace(pictured, rows=tuple(row for row in both.rows if row.planes == 1))
    assert len(one.rows) > 1
    assert [figure.name for figure in figures(one)] == [
        "curves-8-um-one-plane.png",
        "sheet-8-um-one-plane.jpg",
    ]
    assert "| one |" in tables(both, [])[0].markdown()
    with pytest.raises(OtherImagesError, match="other images"):
        Condition.of("8 um", rows, results[::-1]).beside(earlier)


def test_other_specimens_and_real_stacks_are_scored_by_the_same_command(
    elsewhere: Evaluation,
) -> None:
    assert elsewhere.code == 0
    names = [name for name in elsewhere.scores if name not in OVERALL]
    assert names == ["4 um", "other 4 um", "real"]
    assert elsewhere.scores["real"]["masks"] == {}
    assert set(elsewhere.scores["real"]["agreement"]) == {
        "blur",
        "variance of Laplacian",
        "always the middle plane",
    }
    assert not list(elsewhere.out.glob("*.png"))


def test_only_the_methods_asked_for_are_scored(elsewhere: Evaluation) -> None:
    rows = set(elsewhere.scores["4 um"]["table"])
    assert rows == {
        *("layer 0", "layer 0 (of three)", "oracle selection", "one", "three"),
        *("unsharp mask", "Richardson-Lucy", "Wiener", "argmax", "evidence"),
    }


def test_the_real_stack_is_judged_by_the_fusion_of_all_its_planes(tmp_path: Path) -> None:
    stack = RealStack(planes_in(tmp_path), side=64)
    sample = Task(stack).render()
    assert sample.planes.shape == (5, 64, 64, 3)
    assert stack.shape() == (64, 64)
    evidence = apply(load_method("evidence", "cpu"), sample.planes)
    assert np.array_equal(sample.truth_three, evidence)
    assert not sample.known.any()
    (tmp_path / "planes" / "plane_4.png").unlink()
    with pytest.raises(DataError, match="4 focus layers"):
        stack.planes()


def test_intervals_are_calibrated_and_the_card_says_by_how_much(elsewhere: Evaluation) -> None:
    found = elsewhere.scores["calibration"]
    assert set(found) == {"one", "three"}
    for name, about in found.items():
        card = read_card(elsewhere.out / f"{name}.safetensors")
        assert card.error_factor == pytest.approx(about["factor"])
        assert card.scores["benchmark"]["calibration"] == about
        assert set(about["coverage"]) == {
            *("4 um", "other 4 um", "real"),
            *("test fields, all depths", "other, all depths"),
        }
    file = elsewhere.out / "one.safetensors"
    method = load_neural(model_info(file, read_card(file)))
    extent = Extent((4.0,), 1, 1, 144)
    material = of_data_set(str(elsewhere.images / "drawn.toml"), elsewhere.images, extent)
    sample = material.conditions["4 um"][0].render()
    fused, expected = infer(method, sample.central(1), sample.sampling(1))
    assert expected is not None
    off = np.abs(fused.astype(float) - sample.truth_one)[32:-32, 32:-32]
    widest = found["one"]["factor"] * 255 * expected[32:-32, 32:-32, None] + 0.5
    assert found["one"]["coverage"]["4 um"] == pytest.approx((off <= widest).mean(), abs=0.01)


def test_the_bars_say_what_holds(elsewhere: Evaluation) -> None:
    bars = {(b["model"], b["condition"], b["what"]): b for b in elsewhere.scores["bars"]}
    table = elsewhere.scores["4 um"]["table"]
    errors = {name: 1 - scores["SSIM-paper"] for name, scores in table.items()}
    against = bars["one", "4 um", "1 - SSIM over that of layer 0"]
    assert against["measured"] == pytest.approx(errors["one"] / errors["layer 0"])
    assert against["holds"] == (errors["one"] <= errors["layer 0"])
    against = bars["three", "4 um", "1 - SSIM over that of evidence"]
    assert against["measured"] == pytest.approx(errors["three"] / errors["evidence"])
    assert against["holds"] is None
    own = bars["three", "4 um", "largest change of tone from its blend of planes, grey levels"]
    assert own["measured"] == table["three"]["tone of its correction, largest"]
    assert own["holds"]  # of random weights, it has no correction yet
    kept = bars["three", "other 4 um", "share of the gain kept"]["measured"]
    assert kept is None or kept == pytest.approx(1.0)  # it is the same image
    assert ("blur", "4 um, cells", "Spearman with defocus") in bars
    assert "### Bars" in (elsewhere.out / "tables.md").read_text()
    noted = read_card(elsewhere.out / "one.safetensors").scores
    assert noted["benchmark"]["bars"]["mean change of sharp input, grey levels, in focus"] == (
        "0.000, at most 1: holds"
    )
    assert noted["command"] == (
        "focusfuse evaluate MODEL... --data DIR --unseen other=DIR --stack real=DIR --depths 4 "
        "--seeds 1 --side 144 --out DIR"
    )


def test_lbc_measures_and_never_trains(tmp_path: Path) -> None:
    parts = data_set("lbc").images
    assert {part: len(images) for part, images in parts.items()} == {
        **dict.fromkeys(("train", "validation", "calibration"), 0),
        "test": 10,
    }
    with pytest.raises(DataError, match="trains none"):
        sharp_images(tiny_config(tmp_path, data_set="lbc"), tmp_path, None)


def test_a_data_set_that_keeps_nothing_for_a_test_is_refused(done: Evaluation) -> None:
    path = done.images / "none.toml"
    path.write_text(unseen_of(done.images).read_text().split("[test]")[0] + "[test]\n")
    with pytest.raises(DataError, match="keeps nothing for a test"):
        of_data_set(str(path), done.images, Extent())


def test_the_bars_of_several_depths() -> None:
    rows = (Entry("argmax", 3, oracle, "classical"), Entry("m", 3, oracle), Entry("one", 1, oracle))
    sizes = {"argmax": 0.2, "m": 0.15, "one": 0.1, "layer 0": 0.1, "layer 0 (of three)": 0.3}
    sizes |= dict.fromkeys(RESTORATIONS, 0.2)

    def condition(name: str, depth: float, unseen: str = "", **other: float) -> Condition:
        errors = {**sizes, **other}
        whole = {row: [{"SSIM-paper": 1 - e, "tone, largest": 0.4}] for row, e in errors.items()}
        return Condition(name, rows, whole, {}, {}, unseen=unseen, depth_um=depth)

    conditions = [condition("8 um", 8.0), condition("lbc 8 um", 8.0, "lbc", m=0.18)]
    conditions.append(condition("4 um", 4.0, m=0.19))
    found = {
        (b.model, b.condition): b
        for b in bars(conditions, {}, {})
        if b.what.endswith(("argmax", "layer 0", "kept"))
    }
    assert found["m", "8 um"].value == pytest.approx(0.75)
    assert found["m", "8 um"].holds is False
    assert found["m", "4 um"].holds is True
    assert found["one", "8 um"].holds is False
    assert found["one", "4 um"].holds is True
    assert found["m", "lbc 8 um"].value == pytest.approx(0.1 / 0.25)
    assert found["m", "lbc 8 um"].bounds == "at least 0.7"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["swift-three"], 1, "--out"),
        (["swift-three", "--out", "OUT"], 1, "--data"),
        (["swift-none", "--out", "OUT", "--data", "."], 4, "There is no model 'swift-none'"),
        (["swift-three", "--out", "OUT", "--data", "."], 4, "is missing"),
        (["swift-three", "--out", "OUT", "--data", ".", "--patches", "0"], 1, "above 0"),
        (["swift-three", "--out", "OUT", "--depths", "4;8"], 1, "--depths"),
        (["swift-three", "--out", "OUT", "--data", ".", "--side", "64"], 1, "--side 128"),
        (["swift-three", "--out", "OUT", "--unseen", "lbc"], 1, "--unseen"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], code: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("OUT", str(tmp_path)) for word in words]) == code
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.count("\n") == 1


def test_without_matplotlib_the_tables_are_written_all_the_same(
    done: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(program, "can_draw", lambda: False)
    data = ["--data", str(done.images), "--data-set", str(done.images / "drawn.toml")]
    blur = str(done.models / "blur.safetensors")
    options = ["--depths", "8", "--jobs", "1", "--patches", "1", "--seeds", "1"]
    options += ["--out", str(tmp_path)]
    assert main([blur, *data, *options]) == 0
    assert "Blur masks" in (tmp_path / "tables.md").read_text()
    assert [record.message for record in caplog.records if "matplotlib" in record.message]


def test_the_command_starts_it_in_a_process_and_passes_its_exit_code_on(tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--data", tmp_path, "--depths", "4,8"]
    answer = run_process("evaluate", "swift-none", *options)
    assert answer.code == 4
    assert answer.err.startswith("There is no model 'swift-none'")
    answer = run_process("evaluate", "swift-three", *options, "--beside", tmp_path / "none.json")
    assert answer.code == 1
    assert "none.json cannot be read" in answer.err
