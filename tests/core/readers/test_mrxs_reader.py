"""MIRAX slides against what OpenSlide shows of them, one focus layer at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import openslide
import pytest
from shell import Shell

from mrxs_files import (
    IDENTITY,
    PATIENT,
    Layout,
    Slot,
    edit_ini,
    focus_slots,
    in_front,
    write_mrxs,
)
from napari_focusfuse.readers import open_slide
from napari_focusfuse.readers.mrxs import MiraxSlide
from napari_focusfuse.slide import PlaneError, Region, SlideError
from slide_files import Stack, halved, make_stack


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


MISSING = frozenset({(1, 1), (2, 0)})
CASES: dict[str, Layout] = {
    "grid": Layout(),
    "jpeg": Layout(codec="JPEG"),
    "jpeg, 4:2:0": Layout(codec="JPEG", subsampling=2, zooms=2),
    "bitmap, mask": Layout(codec="BMP24", mask=True, zooms=2),
    "grid, missing": Layout(zooms=4, missing=MISSING | {(2, 1), (3, 0), (3, 1)}),
    "many files, short pages": Layout(images_per_file=7, page=200),
    "photos": Layout(divisions=2, overlap=(8, 10), jitter=3, positions="vimslide", missing=MISSING),
    "photos, packed table": Layout(
        divisions=2, overlap=(8, 10), jitter=3, positions="zlib", zooms=4
    ),
    "photos, no table": Layout(divisions=2, overlap=(7, 5), zooms=4),
    "photos of one image": Layout(overlap=(7, 5), jitter=2, positions="vimslide", zooms=4),
    "parts between pixels": Layout(
        tile=(35, 50), overlap=(7, 5), jitter=2, positions="vimslide", zooms=4
    ),
    "photos of 16, bounds": Layout(
        divisions=4, overlap=(7, 5), jitter=2, positions="vimslide", missing=frozenset({(1, 0)})
    ),
    "reduced zoom 0": Layout(divisions=4, first_exponent=1, overlap=(8, 8), positions="vimslide"),
    "11 layers": Layout(tile=(48, 64), zooms=2),
}


def scenes(count: int, height: int = 170, width: int = 250) -> list[Stack]:
    """Fine texture: a shift by half a pixel would show."""
    rng = np.random.default_rng(0)
    coarse = make_stack(count, height, width)
    fine = rng.integers(-40, 40, coarse.shape)
    return list(np.clip(coarse + fine, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_what_openslide_shows_of_it_in_slot_0(name, tmp_path, open_files):
    layout = CASES[name]
    *layers, fused = scenes(12 if name == "11 layers" else 4)
    slots = focus_slots(layers, -(len(layers) // 2), fused=fused, step=2.7)
    path = write_mrxs(tmp_path / "s.mrxs", slots, layout)
    with open_slide(path) as slide:
        assert isinstance(slide, MiraxSlide)
        assert slide.zero == len(layers) // 2
        planes = [slide.extended, *slide.planes]
        for slot in (0, len(layers)):
            other = write_mrxs(tmp_path / f"{slot}.mrxs", in_front(slots, slot), layout)
            with openslide.OpenSlide(other) as oracle:
                assert [level.shape[::-1] for level in slide.levels] == list(
                    oracle.level_dimensions
                )
                for level in range(len(slide.levels)):
                    compare(slide, planes[slot], level, oracle)
                check_bounds(slide, oracle)
        assert (slide.warnings, slide.not_shown) == ([], [])
    assert open_files(tmp_path) == []


def compare(slide: MiraxSlide, plane, level: int, oracle: openslide.OpenSlide) -> None:
    height, width = slide.levels[level].shape
    rgba = np.asarray(oracle.read_region((0, 0), level, (width, height)))
    alpha = rgba[..., 3:] / 255
    expected = np.round(rgba[..., :3] * alpha + 255 * (1 - alpha))
    read = slide.read_region(plane, level, 0, 0, height, width)
    off = np.abs(read - expected)
    if level == 0:
        assert off.max() == 0
    assert off.mean() <= 0.02
    assert off.max() <= 1
    assert (slide.coverage(plane, level, Region(0, 0, height, width)) == rgba[..., 3]).all()
    # Any part of it is that part of the whole.
    part = slide.read_region(plane, level, height // 3, width // 4, height // 2, width // 3)
    rows = slice(height // 3, height // 3 + height // 2)
    assert (part == read[rows, width // 4 : width // 4 + width // 3]).all()


def check_bounds(slide: MiraxSlide, oracle: openslide.OpenSlide) -> None:
    names = ("y", "x", "height", "width")
    found = [oracle.properties.get(f"openslide.bounds-{name}") for name in names]
    if None not in found:
        assert slide.bounds == Region(*(int(value) for value in found if value))
    else:
        assert slide.bounds == Region(0, 0, *slide.levels[0].shape)


@pytest.mark.parametrize("codec", ["JPEG2000", "JPEGXR"])
def test_codecs_that_openslide_refuses(codec, tmp_path):
    (scene,) = scenes(1, 96, 96)
    layout = Layout(codec=codec, zooms=2)
    with open_slide(write_mrxs(tmp_path / "s.mrxs", focus_slots([scene]), layout)) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 96, 96) == scene).all()
        assert (slide.read_region(slide.planes[0], 1, 0, 0, 48, 48) == halved(scene)).all()


@pytest.mark.parametrize("rule", ["table", "adjacent", "both"])
@pytest.mark.parametrize("mask", [False, True])
def test_both_accounts_of_where_focus_slots_lie(rule, mask, tmp_path):
    *layers, fused = scenes(4, 96, 96)
    slots = focus_slots(layers, -1, fused=fused)
    layout = Layout(rule=rule, mask=mask, zooms=2, scattered=True, page=2)
    with open_slide(write_mrxs(tmp_path / "s.mrxs", slots, layout)) as slide:
        stack = slide.read_stack([*slide.planes, slide.extended], 0, 0, 0, 96, 96)
        assert (stack == [*layers, fused]).all()
        whole = slide.structure()
        assert whole["rule"] == ("adjacent heads" if rule == "adjacent" else "table")
        assert f"{whole['rule']}: 3 of 3 further slots lead to images" in whole["evidence"]


def test_where_neither_account_holds_the_first_slot_is_shown_and_the_rest_told(tmp_path):
    *layers, fused = scenes(4, 96, 96)
    slots = focus_slots(layers, -1, fused=fused)
    path = write_mrxs(tmp_path / "s.mrxs", slots, Layout(rule="neither", zooms=2))
    with open_slide(path) as slide:
        assert [plane.name for plane in slide.planes] == ["ExtFocusLevel"]
        assert slide.extended is None
        assert slide.not_shown == [
            "3 of 4 focus layers, whose place in the file is unknown; ExtFocusLevel is shown"
        ]
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 96, 96) == fused).all()


def test_a_stack_that_is_not_symmetric_with_commas_for_points(tmp_path):
    layers = scenes(30, 64, 96)
    slots = focus_slots(layers, -14, fused=layers[3], step=0.9)
    slots = [slots[0], *slots[:0:-1]]  # the file's order means nothing
    layout = Layout(comma=True, zooms=1)
    with open_slide(write_mrxs(tmp_path / "s.mrxs", slots, layout)) as slide:
        assert [plane.name for plane in slide.planes[::29]] == [
            "ZStackLevel_(-14)",
            "ZStackLevel_(15)",
        ]
        assert slide.zero == 14
        assert slide.z_step_um == pytest.approx(0.9)
        assert slide.planes[0].z_um == pytest.approx(-12.6)
        assert slide.extended is not None
        assert slide.extended.z_um is None
        assert (slide.read_stack(slide.planes, 0, 0, 0, 64, 96) == layers).all()


def test_what_a_slide_says_of_itself(tmp_path):
    (scene,) = scenes(1)
    pictures = {
        name: make_stack(1, 40, 50, seed)[0]
        for seed, name in enumerate(["macro", "label", "thumbnail"])
    }
    layout = Layout(background=0x102030, associated=pictures, positions="vimslide", zooms=2)
    path = write_mrxs(tmp_path / "s.mrxs", focus_slots([scene]), layout)
    with open_slide(path) as slide, openslide.OpenSlide(path) as oracle:
        assert (slide.format, slide.mpp, slide.objective) == ("mrxs", (0.5, 0.25), 40)
        assert slide.background == (0x30, 0x20, 0x10)
        assert (slide.extended, slide.zero, slide.z_step_um) == (None, 0, None)
        assert [level.downsample for level in slide.levels] == [(1, 1), (2, 2)]
        assert sorted(slide.associated) == sorted(oracle.associated_images) == sorted(pictures)
        for name, image in slide.associated.items():
            assert (image == np.asarray(oracle.associated_images[name])[..., :3]).all()


def test_zoom_levels_that_are_not_stored_are_computed_and_told(tmp_path):
    layers = scenes(2, 192, 192)
    slots = [
        Slot("ExtFocusLevel", layers[0]),
        Slot("ZStackLevel_(0)", layers[1], 0.0, last_zoom=1),
    ]
    path = write_mrxs(tmp_path / "s.mrxs", slots, Layout(zooms=4))
    with open_slide(path) as slide:
        plane = slide.planes[0]
        assert [slide.stored(plane, level) for level in range(4)] == [True, True, False, False]
        assert slide.extended is not None
        assert slide.stored(slide.extended, 3)
        assert slide.warnings == [
            "Zoom levels 2 to 3 of 1 focus layers are not stored; they are computed from finer "
            "ones, which takes longer."
        ]
        quarter = halved(halved(layers[1]))
        assert (slide.read_region(plane, 2, 5, 6, 30, 31) == quarter[5:35, 6:37]).all()
        assert (slide.read_region(plane, 3, 0, 0, 24, 24) == halved(quarter)).all()


def test_slots_without_images_are_told(tmp_path):
    layers = scenes(2, 96, 96)
    slots = [*focus_slots(layers), Slot("ZStackLevel_(2)", None, 2.0)]
    with open_slide(write_mrxs(tmp_path / "s.mrxs", slots, Layout(zooms=1))) as slide:
        assert len(slide.planes) == 2
        assert slide.not_shown == ["1 of 3 focus layers, which hold no images"]


def test_filters_of_a_fluorescence_slide_are_told(tmp_path):
    layers = scenes(2, 96, 96)
    layout = Layout(
        filters=("DAPI", "FITC", "通道"), stored_filters=(2,), kind="SLIDE_TYPE_FLUORESCENCE"
    )
    with open_slide(write_mrxs(tmp_path / "s.mrxs", focus_slots(layers), layout)) as slide:
        assert slide.warnings == [
            "This is a fluorescence slide (filters DAPI, FITC, 通道), shown as red, green and "
            "blue; methods for stained cells do not fit it."
        ]
        assert slide.not_shown == ["filter levels with images of their own: 通道"]


def test_heights_that_are_missing_are_not_invented(tmp_path):
    path = write_mrxs(tmp_path / "s.mrxs", focus_slots(scenes(3, 64, 96), -1), Layout(zooms=1))
    edit_ini(path, ("OFFSET_IN_MICROMETERS = -1", "OFFSET_IN_MICROMETERS = ?"))
    with open_slide(path) as slide:
        assert [plane.z_um for plane in slide.planes] == [None] * 3
        assert slide.zero == 1


def test_which_planes_share_a_region_is_found_once(tmp_path, monkeypatch):
    layers = scenes(3)
    layout = Layout(overlap=(7, 5), jitter=2, positions="vimslide")
    with open_slide(write_mrxs(tmp_path / "s.mrxs", focus_slots(layers, -1), layout)) as slide:
        each = [slide.read_region(plane, 1, -5, 11, 90, 500) for plane in slide.planes]
        asked = []
        tiles = slide._places.tiles
        monkeypatch.setattr(slide._places, "tiles", lambda *a: asked.append(a) or tiles(*a))
        assert (slide.read_stack(slide.planes, 1, -5, 11, 90, 500) == each).all()
        assert len(asked) == 1


def test_threads_read_at_once(tmp_path):
    layers = scenes(3)
    layout = Layout(overlap=(7, 5), positions="vimslide", images_per_file=1, zooms=2)
    faults: list[str] = []
    with open_slide(write_mrxs(tmp_path / "s.mrxs", focus_slots(layers, -1), layout)) as slide:
        wholes = [slide.read_region(p, 1, 0, 0, 100, 150) for p in slide.planes]

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(15):
                z, y, x = (int(rng.integers(0, limit)) for limit in (3, 50, 100))
                read = slide.read_region(slide.planes[z], 1, y, x, 50, 50)
                if (read != wholes[z][y : y + 50, x : x + 50]).any():
                    faults.append(f"{z} {y} {x}")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


def test_layer_zero_can_be_chosen_and_a_closed_slide_says_so(tmp_path, open_files):
    path = write_mrxs(tmp_path / "s.mrxs", focus_slots(scenes(3, 64, 96), -1), Layout(zooms=1))
    with open_slide(path, zero=0) as slide:
        assert slide.zero == 0
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read_region(slide.planes[0], 0, 0, 0, 5, 5)
    with pytest.raises(PlaneError, match="must be 0 to 2, not 7"):
        open_slide(path, zero=7)
    assert open_files(tmp_path) == []


def test_many_data_files_are_not_all_open_at_once(tmp_path, open_files):
    (scene,) = scenes(1, 320, 480)
    path = write_mrxs(tmp_path / "s.mrxs", focus_slots([scene]), Layout(images_per_file=1, zooms=1))
    assert len(list(Path(tmp_path / "s").glob("Data*"))) == 100
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 320, 480) == scene).all()
        assert len(open_files(tmp_path)) == 64
    assert open_files(tmp_path) == []


def test_inspect_prints_how_a_slide_is_stored_and_no_names(tmp_path, shell):
    *layers, fused = scenes(4, 96, 96)
    slots = focus_slots(layers, -1, fused=fused, step=2.7)
    layout = Layout(mask=True, codec="JPEG", positions="vimslide", zooms=2)
    path = write_mrxs(tmp_path / "Doe_Jane.mrxs", slots, layout)
    answer = shell("inspect", path)
    assert answer.code == 0
    for line in (
        "mrxs: 3 focus layers",
        "  Microscope focus level: 4, default 0: ExtFocusLevel, ZStackLevel_(-1), ",
        "  [LAYER_3_LEVEL_3_SECTION] OFFSET_IN_MICROMETERS = 2.7",
        "  [LAYER_3_SECTION] LAST_Z_STACKED_ZOOM_LEVEL = 10",
        "  VIMSLIDE_POSITION_BUFFER: default",
        "rule: table",
        "  table: 3 of 3 further slots lead to images",
        "  0 (0, 0, 0, 0) at 45: 6 images in 1 pages, first 0, mean ",
        "  3: ZStackLevel_(1), 2.7 um, zoom levels 0, 1",
    ):
        assert line in answer.out
    assert shell("inspect", path, "--json").json["structure"]["rule"] == "table"
    for output in (answer.out, shell("inspect", path, "--json").out):
        for secret in ("Doe", "Jane", PATIENT, IDENTITY):
            assert secret not in output
