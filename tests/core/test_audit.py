"""The audit tells a harmless method from those that paint, sharpen, denoise or erase."""

import json
from pathlib import Path

import numpy as np
import pytest

from focusfuse_training.audit import main
from focusfuse_training.audit_tables import Audit, audit_bars, audit_tables
from focusfuse_training.controls import non_local_means
from focusfuse_training.hallucination import TRUTH_OF, PlantedTask
from focusfuse_training.harmless import HarmlessTask, made
from focusfuse_training.nuclei import Detections, Detector, match
from focusfuse_training.restoration import unsharp
from focusfuse_training.scoring import LAYER0, LAYER0_OF_THREE, Entry, entry_of
from focusfuse_training.task import Sample
from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.reblur import TILE_PX, noise_level, reblur_residual
from napari_focusfuse.smear import PlantedNucleus, draw_smear, plant_smear

SIDE = 256
MEAN_DENSITY = 1.1566479
"""Of a smear drawn before nuclei were planted."""


def disc(image: np.ndarray, y: float, x: float, radius: float, share: float) -> np.ndarray:
    """Multiply the light within a disc."""
    rows, columns = np.indices(image.shape[:2])
    inside = np.clip(radius + 0.5 - np.hypot(rows - y, columns - x), 0, 1)[..., None]
    return np.rint(image * (1 - inside * (1 - share))).astype(np.uint8)


def painted(sample: Sample) -> np.ndarray:
    """Draw a nucleus in the middle, where none is planted."""
    height, width = sample.layer0.shape[:2]
    return disc(sample.layer0, height / 2, width / 2, 14, 0.25)


def grained(sample: Sample) -> np.ndarray:
    """Add grain to what is dark in the truth."""
    side = sample.truth_one.shape[0]
    grain = np.kron(np.random.default_rng(0).standard_normal((side // 4,) * 2), np.ones((4, 4)))
    nuclei = sample.truth_one.min(axis=2) < 120
    return np.clip(sample.truth_one + 25 * (grain * nuclei)[..., None], 0, 255).astype(np.uint8)


ROWS = (
    Entry(LAYER0, 1, lambda s: s.layer0, "input"),
    Entry(LAYER0_OF_THREE, 3, lambda s: s.layer0, "input"),
    entry_of("selection", load_method("argmax", "cpu"), "classical"),
    Entry("painter", 1, painted),
    Entry("sharpener", 1, lambda s: unsharp(s.layer0, 1.5, 2.0)),
    Entry("denoiser", 1, lambda s: non_local_means(s.layer0, 3.0)),
)


ALTERING = (Entry("inventor", 1, grained), Entry("eraser", 1, lambda s: s.truth_one // 2))


@pytest.fixture(scope="module")
def audited() -> Audit:
    judged = [row for row in ROWS if row.kind != "input"]
    methods = {row.name: row.planes for row in judged}
    planted = [PlantedTask(4.0, 0, SIDE).run((*ROWS, *ALTERING))]
    return Audit(methods, planted, [task.run(judged) for task in made(side=96)])


def failed(audit: Audit, method: str) -> set[str]:
    return {bar.what for bar in audit_bars(audit) if bar.model == method and bar.holds is False}


def test_the_detector_finds_every_nucleus_of_a_sharp_picture(audited: Audit) -> None:
    for rows in audited.nuclei().values():
        for truth in TRUTH_OF.values():
            assert rows[truth].found.precision == rows[truth].found.recall == 1
            assert rows[truth].found.planted >= 2


def test_a_detection_has_the_area_of_its_nucleus() -> None:
    nucleus = PlantedNucleus(60, 70, 16, np.pi * 16**2, 0, "usual")
    picture = disc(np.full((128, 128, 3), 240, np.uint8), nucleus.y, nucleus.x, 16, 0.25)
    found = match(Detector().detect(picture), [nucleus])
    assert found.areas[0] == pytest.approx(nucleus.area_px, rel=0.05)
    assert not len(found.strays)


def test_a_nucleus_in_two_pieces_is_one_hit_and_one_false_alarm() -> None:
    there = PlantedNucleus(50, 50, 15, 700, 0, "usual")
    gone = PlantedNucleus(150, 50, 15, 0, 0, "removed")
    centres = np.array([[45.0, 50.0], [57.0, 50.0], [150.0, 55.0], [10.0, 10.0]])
    found = match(Detections(centres, np.full(4, 300)), [there, gone]).found
    assert (found.planted, found.hits, found.false_alarms, found.on_removed) == (1, 1, 3, 1)
    assert found.precision == 0.25


def test_a_selection_does_no_harm(audited: Audit) -> None:
    # What no plane shows in focus no selection can: nuclei may keep some blur, and seem smaller.
    assert failed(audited, "selection") <= {"area bias of nuclei"}


def test_painted_nuclei_are_found_out(audited: Audit) -> None:
    found = failed(audited, "painter")
    assert {"precision over the truth's", "largest change of a constant"} <= found
    assert "farthest beyond the input's local range" in found
    rows = audited.nuclei()[4.0]
    assert rows["painter"].found.false_alarms == 1
    assert rows["painter"].flagged >= 1 > rows[LAYER0].flagged


def test_sharpening_is_found_out(audited: Audit) -> None:
    found = failed(audited, "sharpener")
    assert "farthest beyond the input's local range" in found
    assert "contrast of noise over the input's, the worst" in found


def test_denoising_is_found_out(audited: Audit) -> None:
    assert "contrast of noise over the input's, the worst" in failed(audited, "denoiser")


def test_every_method_has_a_line_in_every_table(audited: Audit) -> None:
    titles = {table.title for table in audit_tables(audited)}
    assert titles == {"Drawn nuclei, +-4 um", "Chromatin, +-4 um", "Inputs without cells"}
    for table in audit_tables(audited):
        assert {row[0] for row in table.rows} >= set(audited.methods)
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_chromatin_that_was_altered_shows(audited: Audit) -> None:
    rows = audited.nuclei()[4.0]
    textures = {name: rows[name].texture() for name in ("inventor", "eraser", "selection")}
    assert textures["inventor"].contrast > 1.5 * textures["inventor"].truth
    assert textures["eraser"].contrast < 0.3 * textures["eraser"].truth
    assert textures["selection"].error < rows[LAYER0_OF_THREE].texture().error


def test_the_reblur_check_passes_the_truth_and_flags_what_is_not_there() -> None:
    sample, nuclei = PlantedTask(8.0, 2, SIDE).render()
    assert not reblur_residual(sample.layer0, sample.layer0).ratio.any()
    honest = reblur_residual(sample.layer0, sample.truth_one)
    assert not honest.flagged.any()
    assert honest.change.max() > 3 * honest.noise  # it was no small step
    # On empty glass, and among cells 4 um out of focus, where less than a nucleus may hide.
    for y, x, radius in ((32, 32, 5), (96, 160, 10)):
        fake = disc(sample.truth_one, y, x, radius, 0.25)
        flagged = reblur_residual(sample.layer0, fake).flagged
        assert flagged[y // TILE_PX, x // TILE_PX]
        assert flagged.sum() <= 4
    there = next(nucleus for nucleus in nuclei if nucleus.chromatin != "removed")
    place = int(there.y) // TILE_PX, int(there.x) // TILE_PX
    erased = disc(sample.truth_one, there.y, there.x, 1.2 * there.radius_px, 3.0)
    assert reblur_residual(sample.layer0, erased).flagged[place]


def test_noise_is_measured_beside_detail_and_saturation() -> None:
    rng = np.random.default_rng(0)
    light = np.full((192, 192, 3), 180.0) + 4 * rng.standard_normal((192, 192, 3))
    light[:64] = 255
    light[64:128, ::7] = 20
    expected = 4 * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert noise_level(np.clip(np.rint(light), 0, 255).astype(np.uint8)) == pytest.approx(
        expected, rel=0.15
    )
    assert noise_level(np.full((40, 50, 3), 90, dtype=np.uint8)) == pytest.approx(12**-0.5)
    with pytest.raises(ValueError, match="cannot be compared"):
        reblur_residual(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8))


def test_planted_nuclei_are_where_they_are_said_to_be() -> None:
    smear = plant_smear((SIDE, SIDE), np.random.default_rng(4), depth_um=8.0)
    density = smear.specimen.density()
    for nucleus in smear.nuclei:
        y, x = int(nucleus.y), int(nucleus.x)
        inner = density[y - 8 : y + 9, x - 8 : x + 9, :2]
        dark = inner.min(axis=2).mean() > Detector().threshold
        assert dark == (nucleus.chromatin != "removed")
        assert abs(nucleus.height_um) <= 8.0


def test_the_smears_of_the_benchmark_are_what_they_were() -> None:
    specimen = draw_smear((96, 96), np.random.default_rng(0), cells=3, depth_um=8.0)
    assert float(specimen.density().mean()) == pytest.approx(MEAN_DENSITY, rel=1e-5)


def test_the_command_writes_its_tables(tmp_path: Path) -> None:
    words = ["argmax", "--out", str(tmp_path / "out"), "--nuclei", "0", "--jobs", "1"]
    assert main(words) == 0
    text = (tmp_path / "out" / "audit.md").read_text()
    assert "### Bars" in text
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert {bar["model"] for bar in record["bars"]} == {"argmax"}
    assert all(bar["holds"] for bar in record["bars"])
    assert (tmp_path / "out" / "changes.jpg").is_file()


def test_a_word_that_is_no_method_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["no-such-method", "--out", str(tmp_path)]) != 0
    assert "no-such-method" in capsys.readouterr().err
    assert main(["small-blur", "--out", str(tmp_path)]) != 0
    assert "small-blur marks blur" in capsys.readouterr().err


def test_sharp_fields_are_compared_with_themselves() -> None:
    sample, _ = PlantedTask(0.0, 0, SIDE).render()
    selection = next(row for row in ROWS if row.name == "selection")
    result = HarmlessTask("mine", "field", sample.truth_one).run([selection, ROWS[3]])
    assert min(c.psnr for key, c in result.rows.items() if key[0] == "selection") > 42
    (changed,) = (change for key, change in result.rows.items() if key[0] == "painter")
    assert changed.new > 50
    assert changed.psnr < 42
