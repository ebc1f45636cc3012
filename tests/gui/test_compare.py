from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from event_loop import settle, wait_until
from fused_view import fuse
from napari_focusfuse.layer_metadata import KEY
from napari_focusfuse.metrics import VARIANTS
from napari_focusfuse.widgets import compare_request
from napari_focusfuse.widgets._compat import camera


def compare(dock: Any) -> None:
    dock.compare_tab.button.click()
    wait_until(lambda: dock.compare_tab.worker is None)
    settle()


def scores(dock: Any) -> dict[str, str]:
    table = dock.compare_tab.table
    return {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}


def test_the_fused_layer_is_scored_against_the_extended_focus(
    window: Any, fused_smear: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock, _, layer = fused_smear
    tab = dock.compare_tab
    assert tab.image_choice.layer is layer
    assert tab.reference_choice.layer.metadata[KEY]["kind"] == "extended focus"
    threads: list[int] = []
    read = compare_request.read_picture

    def noted(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return read(*arguments)

    monkeypatch.setattr(compare_request, "read_picture", noted)
    compare(dock)
    assert threading.main_thread().ident not in threads
    assert len(threads) == 2
    assert set(scores(dock)) == set(VARIANTS)
    assert 0.5 < float(scores(dock)["SSIM-paper"]) < 1
    height, width = layer.data.shape[:2]
    assert tab.status.plain.startswith(f"{height} x {width} px ({height * width:,}) · level 0 · ")
    assert tab.status.plain.endswith("placed by position")

    tab.difference_button.click()
    settle()
    difference = window.layers[-1]
    assert difference.metadata[KEY]["kind"] == "difference"
    assert difference.extent.world == pytest.approx(layer.extent.world)
    assert [str(unit) for unit in difference.units] == ["micrometer"] * 2
    assert difference.contrast_limits == [-64, 64]

    tab.save_csv(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert set(VARIANTS) <= set(row)
    assert row["pixels"] == str(height * width)


def test_a_file_is_placed_by_correlation_or_by_hand(
    window: Any, fused_smear: Any, tmp_path: Path
) -> None:
    dock, _, layer = fused_smear
    tab = dock.compare_tab
    cut = layer.data[20:, 30:, :3]
    Image.fromarray(np.ascontiguousarray(cut)).save(tmp_path / "export.png")
    tab.choose_file(tmp_path / "export.png")
    compare(dock)
    assert "found by correlation, peak" in tab.status.plain
    assert [box.value() for box in tab.shift_boxes] == [20, 30]
    assert scores(dock)["SSIM-paper"] == "1.0000"
    tab.difference_button.click()
    corner = layer.extent.world[0] + np.array([20, 30]) * 0.243
    assert window.layers[-1].extent.world[0] == pytest.approx(corner)

    tab.shift_boxes[0].setValue(25)
    compare(dock)
    assert "shift by hand" in tab.status.plain
    assert float(scores(dock)["SSIM-paper"]) < 0.99
    tab.auto_button.click()
    wait_until(lambda: tab.worker is None)
    assert [box.value() for box in tab.shift_boxes] == [20, 30]


def test_what_cannot_be_compared_is_said_in_one_sentence(
    window: Any, fused_smear: Any, tmp_path: Path
) -> None:
    dock, _, _ = fused_smear
    tab = dock.compare_tab
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    tab.choose_file(tmp_path / "noise.png")
    compare(dock)
    assert "by hand" in tab.status.plain
    tab.choose_file(tmp_path / "missing.png")
    compare(dock)
    assert "missing.png" in tab.status.plain
    dock.job.fused.data[:4, :4, 3] = 0
    tab.choose_file(tmp_path / "noise.png")
    compare(dock)
    assert "not fused completely" in tab.status.plain


def test_two_layers_of_a_slide_of_unknown_scale_are_placed_by_their_pixels(
    window: Any, open_dock: Callable[[], Any]
) -> None:
    (layer,) = window.open_sample("napari-focusfuse", "algae")
    dock = open_dock()
    camera(window).zoom = 3
    fuse(dock)
    tab = dock.compare_tab
    tab.reference_choice.choose(layer)
    compare(dock)
    assert "placed by position" in tab.status.plain
    assert tab.shift_boxes[0].value() == 0


def test_two_planes_are_compared_where_they_are_in_view(
    window: Any, open_dock: Callable[[], Any]
) -> None:
    layer, extended = window.open_sample("napari-focusfuse", "synthetic_smear")
    dock = open_dock()
    camera(window).zoom = 8
    settle()
    tab = dock.compare_tab
    tab.image_choice.choose(layer)
    tab.reference_choice.choose(extended)
    compare(dock)
    assert "level 0 · placed by position" in tab.status.plain
    height, width = tab._compared.comparison.shape
    shown = np.asarray(window.canvas.size) / 8 / 0.243
    assert (height, width) == pytest.approx(shown, abs=2)
