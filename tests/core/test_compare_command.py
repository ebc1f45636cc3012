"""``focusfuse compare`` of slides: map, figure, and what was fused against where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shell import Shell, textured

from napari_focusfuse import metrics

MPP = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def slide(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Return a slide of three focus layers with an extended focus, and the latter."""
    stack = textured(3, 128, 160)
    fused = stack.max(axis=0)
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        about = {"axes": "ZYXS", "PhysicalSizeZ": 2.7, **MPP}
        writer.write(stack, photometric="rgb", metadata=about, tile=(64, 64))
        about = {"axes": "YXS", "Name": "Extended focus", **MPP}
        writer.write(fused, photometric="rgb", metadata=about, tile=(64, 64))
    return path, fused


def fuse(shell: Shell, slide: Path, out: Path, *options: str) -> np.ndarray:
    answer = shell("fuse", slide, "-o", out, "--method", "argmax", "--planes", "all", *options)
    assert answer.code == 0, answer.err
    with Image.open(out) as file:
        return np.asarray(file)


def test_a_fused_slide_against_its_extended_focus(
    shell: Shell, slide: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, extended = slide
    image = fuse(shell, path, tmp_path / "fused.png")
    pictures = ["--map", tmp_path / "map.png", "--figure", tmp_path / "figure.png"]
    answer = shell("compare", tmp_path / "fused.png", path, *pictures, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["variants"] == pytest.approx(metrics.score(image, extended))
    assert set(answer.json) == {"ssim", "cc", "q_mi", "psnr", "variants"}
    with Image.open(tmp_path / "map.png") as file:
        assert file.size[1] > 8
    with Image.open(tmp_path / "figure.png") as file:
        # Overview, then input, fused and reference.
        assert file.width == 160 + 2 * 12 + 3 * (320 + 12)
    answer = shell("compare", tmp_path / "fused.png", path, "--map", tmp_path / "map.csv")
    assert answer.code == 0
    assert len((tmp_path / "map.csv").read_text().splitlines()) == 2


def test_a_fused_region_is_compared_with_its_place(
    shell: Shell, slide: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, extended = slide
    image = fuse(shell, path, tmp_path / "part.png", "--region", "20,30,64,80")
    answer = shell("compare", tmp_path / "part.png", path, "--json")
    assert answer.code == 0, answer.err
    wanted = metrics.score(image, extended[20:84, 30:110])
    assert answer.json["variants"] == pytest.approx(wanted)
    (tmp_path / "other").mkdir()
    other = (tmp_path / "other" / "renamed.ome.tif").resolve()
    other.write_bytes(path.read_bytes())
    answer = shell("compare", tmp_path / "part.png", other)
    assert answer.code == 4
    assert "--register" in answer.complaint


def test_pictures_need_the_pixels_as_they_are(
    shell: Shell, slide: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, _ = slide
    answer = shell("compare", path, path, "--register", "--figure", tmp_path / "a.png")
    assert answer.code == 1
    assert "leave --register out" in answer.complaint
    answer = shell("compare", path, path, "--figure", tmp_path / "absent" / "a.png")
    assert answer.code == 5
    assert "choose another folder" in answer.complaint
