"""The benchmark on small stacks: what it compares, and that its numbers are the metrics'."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from focusfuse_training.benchmark import Request, main, stack_tasks
from focusfuse_training.benchmark_sets import BENCHMARK_SETS
from focusfuse_training.contest import MEAN, StackTask, contest, methods
from focusfuse_training.method_cost import measure
from focusfuse_training.scoring import LAYER0, ORACLE, apply
from napari_focusfuse.benchmark_definition import BORDER_PX, DEPTHS_UM
from napari_focusfuse.fusion.catalogue import available_methods, load_method
from napari_focusfuse.metrics import score

APART, OVERLAPPING, *NEARLY_EQUAL = BENCHMARK_SETS


@dataclass(frozen=True)
class Run:
    """One quick benchmark, for all tests that look at it."""

    code: int
    out: Path

    @property
    def records(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.out / "tables.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("benchmark")
    words = ["--quick", "--side", "128", "--jobs", "1", "--methods", "argmax,swift-single"]
    return Run(main(["--out", str(out), *words]), out)


def test_everything_is_written(done: Run) -> None:
    assert done.code == 0
    text = (done.out / "tables.md").read_text()
    for title in (
        *("One plane, SSIM-paper", "Three planes, SSIM-paper", "Eleven planes, SSIM-paper"),
        *("Algae, a real stack of unknown truth", "Depth map", "Three planes, Q_MI"),
    ):
        assert f"### {title}" in text
    for condition in ("apart 8 um", "overlapping 8 um", "nearly equal, high noise 1 um"):
        assert condition in text
    assert "Command: `focusfuse benchmark --out" in text
    assert "://" not in (done.out / "index.html").read_text()


def test_numbers_are_those_of_the_metrics(done: Run) -> None:
    stack = StackTask(OVERLAPPING, 8.0, 0, 3, 128).render()
    pictures = {
        ORACLE: stack.oracle,
        "argmax": apply(load_method("argmax", "cpu"), stack.planes),
        LAYER0: stack.planes[1],
    }
    found = {
        (record["row"], record["metric"]): float(record["mean"])
        for record in done.records
        if (record["table"], record["condition"]) == ("3 planes", "overlapping 8 um")
    }
    for name, picture in pictures.items():
        for metric, value in score(picture, stack.truth_all, BORDER_PX).items():
            assert found[name, metric] == pytest.approx(value, rel=1e-5)


def test_the_oracle_is_in_the_benchmark_only() -> None:
    assert ORACLE not in {info.name for info in available_methods()}
    result = contest(StackTask(APART, 4.0, 0, 3, 128), ("argmax",))
    assert {name for planes, name in result.rows if planes == 3} == {LAYER0, MEAN, "argmax", ORACLE}
    ssim = {
        name: scores["SSIM-paper"] for (planes, name), scores in result.rows.items() if planes == 3
    }
    assert max(ssim, key=ssim.__getitem__) in (ORACLE, "argmax", MEAN)
    assert ssim[ORACLE] > ssim[LAYER0]


def test_every_registered_method_has_a_turn() -> None:
    turns = {info.name for planes in (1, 3) for info in methods(planes)}
    assert turns >= {info.name for info in available_methods()}
    assert {"wavelet", "pyramid-plain", "dtcwt-plain"} <= {info.name for info in methods(11)}


def test_all_depths_and_kinds_are_run_with_fixed_seeds() -> None:
    tasks = stack_tasks(Request(Path("out"), stacks=2))
    cases = {(t.kind.name, t.depth_um, t.layers, t.seed) for t in tasks}
    for kind in (APART, OVERLAPPING):
        assert {(kind.name, d, n, s) for d in DEPTHS_UM for n in (3, 11) for s in (0, 1)} <= cases
    assert {kind.name for kind in NEARLY_EQUAL} <= {name for name, *_ in cases}
    first, second = (StackTask(APART, 4.0, 1, 3, 64).render() for _ in range(2))
    np.testing.assert_array_equal(first.planes, second.planes)


def test_a_method_is_measured_in_a_process_of_its_own() -> None:
    ((name, cost),) = measure(["argmax"], planes=3, side=256)
    assert name == "argmax"
    assert cost.seconds_per_mpx > 0
    # Three float32 planes of three colours, at the least; NaN where the system does not tell.
    assert np.isnan(cost.megabytes) or cost.megabytes > 3 * 3 * 4 * 256**2 / 1e6


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods", "gold"], "There is no fusion method 'gold'"),
        (["--stacks", "9"], "--stacks must be 1 to 5"),
        (["--sides", "3"], "focusfuse benchmark: unrecognized arguments"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "out"), *words]) == 1
    assert sentence in capsys.readouterr().err
