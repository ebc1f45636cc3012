"""A whole slide against its reference, tile by tile."""

from __future__ import annotations

import csv
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn_slide import Drawn
from napari_focusfuse import fuse, metrics
from napari_focusfuse.comparison import ComparisonError, ComparisonOutputError, Picture, compare
from napari_focusfuse.comparison_figure import (
    BLOCK,
    ENLARGED,
    choose_blocks,
    draw_map,
    reduced,
    write_figure,
    write_map,
)
from napari_focusfuse.readers import open_slide
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import Region, Slide
from napari_focusfuse.slide_comparison import Shown, SlideComparison, compare_slides, lay_over
from napari_focusfuse.writer import write_image
from textured_slide import blurred, stains


def shown(image: np.ndarray, name: str = "a") -> Shown:
    slide = ArraySlide(image[None], name=name)
    return Shown.whole(slide, slide.planes[0])


def finished(image: Shown, reference: Shown, **options: Any) -> SlideComparison:
    steps = compare_slides(image, reference, **options)
    done = []
    while True:
        try:
            done.append(next(steps))
        except StopIteration as end:
            assert done == [(number + 1, len(done)) for number in range(len(done))]
            return end.value


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_focusfuse.slide_comparison.TILE", 64)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("shape", [(200, 130), (128, 64), (17, 300), (64, 65), (67, 131)])
def test_scores_are_those_of_the_whole_image_in_memory(shape: tuple[int, int]) -> None:
    image = stains(*shape)
    reference = blurred(image, 1.0)
    reference[: shape[0] // 2] = np.minimum(reference[: shape[0] // 2], 250) + 5
    wanted = compare(Picture(image), Picture(reference), shift=(0, 0)).scores
    found = finished(shown(image), shown(reference)).scores
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


@pytest.mark.usefixtures("small_tiles")
def test_neither_equal_nor_flat_images_break_the_sums() -> None:
    flat = np.full((100, 90, 3), 240, np.uint8)
    for image, reference in ((flat, flat), (flat, stains(100, 90))):
        wanted = metrics.score(image, reference)
        found = finished(shown(image), shown(reference)).scores
        assert found == pytest.approx(wanted, nan_ok=True)


@pytest.mark.usefixtures("small_tiles")
def test_every_tile_has_its_own_scores_and_threads_change_nothing(tmp_path: Path) -> None:
    image = stains(200, 130)
    reference = image.copy()
    reference[70:120, 70:120] = 255 - reference[70:120, 70:120]
    results = [finished(shown(image), shown(reference), threads=n) for n in (1, 3)]
    assert results[0].scores == results[1].scores
    np.testing.assert_array_equal(results[0].ssim_map(), results[1].ssim_map())
    table = results[0].ssim_map()
    assert table.shape == (4, 3)
    assert np.unravel_index(np.nanargmin(table), table.shape) == (1, 1)
    inner = metrics.ssim_map(image, reference)[64:128, 64 : 130 - 5].mean()
    assert table[1, 1] == pytest.approx(inner)
    # Of the last column, 2 pixels wide, no window lies inside the image.
    assert np.isnan(table[:, 2]).all()
    assert (table[0, :2] <= 1).all()
    write_map(results[0], tmp_path / "map.csv")
    with (tmp_path / "map.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["y"], row["x"]) for row in rows[3:5]] == [("64", "0"), ("64", "64")]
    assert float(rows[4]["SSIM-paper"]) == table[1, 1]
    assert math.isinf(float(rows[9]["PSNR"]))


def test_memory_does_not_grow_with_the_slide() -> None:
    peaks = []
    for height in (1024, 4096):
        with Drawn(height, 512) as slide:
            pair = [Shown.whole(slide, plane) for plane in slide.planes[:2]]
            tracemalloc.start()
            finished(pair[0], pair[1], threads=1)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def fused_region(slide: Slide, path: Path) -> dict[str, Any]:
    fusion = fuse(slide, Region(40, 60, 90, 80), (0,), method="argmax", level=1)
    write_image(path, fusion.image, mpp=None, provenance=fusion.provenance, compression="zstd")
    return fusion.provenance


def test_a_fused_region_is_laid_over_its_place_in_the_slide(tmp_path: Path) -> None:
    with Drawn(extended=True) as slide:
        provenance = fused_region(slide, tmp_path / "part.ome.tif")
        assert slide.extended is not None
        with open_slide(tmp_path / "part.ome.tif") as part:
            image = Shown.whole(part, part.planes[0])
            whole = Shown.whole(slide, slide.extended)
            first, second = lay_over(image, whole, provenance)
            assert (second.level, second.region) == (1, Region(40, 60, 90, 80))
            own = second.on(slide.planes[slide.zero])
            assert finished(first, own).scores["SSIM-paper"] > 0.99
            for other in (None, {}, {**provenance, "source": "another.mrxs"}):
                with pytest.raises(ComparisonError, match="add --register"):
                    lay_over(image, whole, other)
            moved = {**provenance, "region": [630, 60, 90, 80]}
            with pytest.raises(ComparisonError, match="add --register"):
                lay_over(image, whole, moved)


def test_tiny_images_are_not_worth_a_score() -> None:
    with pytest.raises(ComparisonError, match="at least 16"):
        lay_over(shown(stains(15, 40)), shown(stains(15, 40)))


def with_cells(height: int, width: int) -> np.ndarray:
    """Return a white image with a stained square in some tiles."""
    image = np.full((height, width, 3), 245, np.uint8)
    for y, x in ((0, 0), (512, 512), (512, 0)):
        image[y + 150 : y + 400, x + 150 : x + 400] = stains(250, 250)
    return image


def test_blocks_are_chosen_by_rule_among_tiles_with_cells(tmp_path: Path) -> None:
    image = with_cells(1024, 1100)
    reference = image.copy()
    reference[512:, 512:1024] = blurred(image, 4.0)[512:, 512:1024]
    reference[512:, :512] = blurred(image, 2.0)[512:, :512]
    result = finished(shown(image, "fused.ome.tif"), shown(reference, "slide.mrxs"))
    overview = reduced(result.image, 300)
    assert overview.shape == (256, 275, 3)
    blocks = choose_blocks(result, overview)
    assert [block.rank for block in blocks] == ["lowest", "median", "highest"]
    corners = [(block.part.y // 512, block.part.x // 512) for block in blocks]
    assert corners == [(1, 1), (1, 0), (0, 0)]
    path = tmp_path / "figure.png"
    write_figure(result, shown(255 - image, "source"), path)
    with Image.open(path) as file:
        picture = np.asarray(file)
    for block in blocks:
        rows, columns = (
            slice(block.part.y, block.part.y + BLOCK),
            slice(block.part.x, block.part.x + BLOCK),
        )
        for source in (255 - image, image, reference):
            enlarged = source[rows, columns].repeat(ENLARGED, 0).repeat(ENLARGED, 1)
            assert holds(picture, enlarged)
    write_figure(result, None, path)
    with Image.open(path) as file:
        assert file.width == picture.shape[1] - BLOCK * ENLARGED - 12


def holds(picture: np.ndarray, part: np.ndarray) -> bool:
    """Tell whether a picture holds a part somewhere, pixel by pixel."""
    height, width = part.shape[:2]
    starts = np.argwhere((picture[: -height + 1, : -width + 1] == part[0, 0]).all(-1))
    return any(
        np.array_equal(picture[y : y + height, x : x + width], part)
        for y, x in starts
        if np.array_equal(picture[y, x : x + width], part[0])
    )


def test_a_map_is_white_at_one_and_dark_at_its_lowest() -> None:
    ssim = np.array([[1.0, 0.4], [0.7, np.nan]])
    picture = np.asarray(draw_map(ssim))
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert picture[0, 8].tolist() == [94, 12, 44]
    assert picture[8, 8].tolist() == [205, 205, 205]
    assert 94 < picture[8, 0, 0] < 255


def test_a_coarse_level_serves_the_overview_and_an_unwritable_file_is_said(tmp_path: Path) -> None:
    with Drawn(4096, 2048) as slide:
        overview = reduced(Shown.whole(slide, slide.planes[0]), 500)
        assert overview.shape == (342, 171, 3)
        assert {level for _, level, _ in slide.reads} == {2}
    result = finished(shown(stains(40, 40)), shown(stains(40, 40)))
    for name in ("map.png", "map.csv"):
        with pytest.raises(ComparisonOutputError, match="choose another folder"):
            write_map(result, tmp_path / "absent" / name)
