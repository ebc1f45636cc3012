"""What a run learns from: patches of real slide files, their references, the split, the cache."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_focusfuse
from drawn_slide import Drawn
from focusfuse_training.corpus import Corpus, gather
from focusfuse_training.data_source import training_data
from focusfuse_training.focus_labels import label_blur
from focusfuse_training.masks import foreground
from focusfuse_training.patch_cache import make_room, stack_bytes
from focusfuse_training.split import draw
from focusfuse_training.squares import held_out, squares, thinned, with_cells
from focusfuse_training.stack import StackError, StackFile, TrainingStack
from napari_focusfuse.benchmark_definition import (
    CAMERA,
    OPTICS,
    DataError,
    simulate_specimen,
)
from napari_focusfuse.defocus import blur_labels
from napari_focusfuse.fusion import fuse
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import FocusFuseError, PlaneError, Region, SlideError
from napari_focusfuse.smear import draw_smear
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import SlideSource, TrainingData, TrainingRun
from slide_files import write_folder, write_ome
from textured_slide import blurred, texture, textured_slide

SMEAR = Path(napari_focusfuse.__file__).parent / "samples" / "smear.ome.tif"


def recipe(**changes: object) -> TrainingConfig:
    values: dict[str, object] = {
        "network": {"planes": 3},
        "data_set": "",
        "patch": 64,
        "foreground": 0.0,
        "patches_per_slide": 12,
        **changes,
    }
    return TrainingConfig("tiny", "Tiny", "swift", **values)  # type: ignore[arg-type]


def coloured(height: int = 256, width: int = 320, planes: int = 3, seed: int = 0) -> np.ndarray:
    """A stack of coloured texture, each plane sharp in a strip of its own."""
    sharp = texture(height, width, seed)
    soft = blurred(sharp)
    owner = np.arange(width) * planes // width
    stack = [np.where((owner == z)[None, :, None], sharp, soft) for z in range(planes)]
    return np.stack(stack)


def slides(folder: Path, count: int, planes: int = 3) -> tuple[SlideSource, ...]:
    paths = [folder / f"slide-{i}.ome.tif" for i in range(count)]
    for seed, path in enumerate(paths):
        write_ome(path, coloured(planes=planes, seed=seed))
    return tuple(SlideSource(path, "fusion:argmax") for path in paths)


def gathered(
    folder: Path, config: TrainingConfig, data: TrainingData, name: str = "run"
) -> tuple[Corpus, dict]:
    run = TrainingRun(folder / name)
    run.create(config, data)
    corpus = gather(config, data, run)
    return corpus, json.loads(run.split_file.read_text())


def place_of(file: StackFile) -> tuple[int, int]:
    y, x = file.path.name.split(".")[0].split("-")
    return int(y), int(x)


def files_of(corpus: Corpus) -> list[StackFile]:
    train = [file for group in corpus.train for file in group.files]
    return [*train, *corpus.validation, *corpus.test]


# ---------------------------------------------------------------------- stacks


def test_a_window_of_a_stack_is_what_was_saved(tmp_path: Path) -> None:
    planes = coloured()
    mask = (planes[1, ..., 0] > 128).astype(np.uint8)
    TrainingStack(planes, planes[0], planes[2], mask).save(tmp_path / "a.stack.safetensors")
    file = StackFile(tmp_path / "a.stack.safetensors")
    assert file.shape == (256, 320)
    window = file.read(16, 100, 48)
    assert (window.planes == planes[:, 16:64, 100:148]).all()
    assert (window.truth_three == planes[2, 16:64, 100:148]).all()
    assert (window.blurred == mask[16:64, 100:148]).all()


def test_a_damaged_stack_is_cut_again(tmp_path: Path) -> None:
    data = TrainingData(slides=slides(tmp_path, 2))
    corpus, _ = gathered(tmp_path, recipe(), data)
    file = corpus.train[0].files[0]
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StackError, match="made again"):
        StackFile(file.path)
    gathered(tmp_path, recipe(), data)
    assert file.path.read_bytes() == whole


# ---------------------------------------------------------------------- where patches lie


def test_squares_cover_an_area_with_the_overlap_asked_for() -> None:
    area = Region(10, 20, 300, 200)
    seen = np.zeros((320, 230), int)
    places = squares(area, 64, 0.25)
    for y, x in places:
        seen[y : y + 64, x : x + 64] += 1
    assert (seen[10:310, 20:220] > 0).all()
    assert seen.sum() == seen[10:310, 20:220].sum()
    assert places[1][1] - places[0][1] == 48
    assert squares(Region(0, 0, 63, 500), 64, 0.25) == []


def test_only_squares_with_cells_are_kept(tmp_path: Path) -> None:
    stack = np.full((3, 256, 256, 3), 240, np.uint8)
    stack[:, 64:128, 128:192] = (160, 60, 140)
    stack[:, 192:200, 0:64] = (160, 60, 140)  # an eighth of one square
    with open_slide(write_ome(tmp_path / "cells.ome.tif", stack)) as slide:
        grid = squares(slide.bounds, 64, 0.0)
        assert with_cells(slide, grid, 64, 0.1) == [(64, 128), (192, 0)]
        assert with_cells(slide, grid, 64, 0.2) == [(64, 128)]
        assert with_cells(slide, grid, 64, 0.0) == grid


def test_cells_are_looked_for_at_a_low_level() -> None:
    slide = Drawn(4096, 4096)
    grid = squares(slide.bounds, 512, 0.25)
    with_cells(slide, grid, 512, 0.1)
    assert {level for _, level, _ in slide.reads} == {len(slide.levels) - 1}


def test_a_capped_slide_is_thinned_evenly() -> None:
    kept = thinned(range(1000), 10, seed=3)
    assert [n // 100 for n in kept] == list(range(10))
    assert kept == thinned(range(1000), 10, seed=3) != thinned(range(1000), 10, seed=4)


def test_held_out_regions_are_apart_and_hold_a_patch() -> None:
    area = Region(5, 7, 400, 900)
    for parts in held_out(area, 128):
        seen = np.zeros((405, 907), int)
        for region in parts.values():
            assert min(region.height, region.width) >= 128
            seen[region.y : region.stop_y, region.x : region.stop_x] += 1
        assert seen.max() == 1
        assert seen.sum() == 400 * 900
    assert set(held_out(area, 128)[0]) == {"train", "validation", "test"}
    assert set(held_out(Region(0, 0, 64, 150), 64)[0]) == {"train", "validation"}
    assert held_out(Region(0, 0, 64, 100), 64) == []


# ---------------------------------------------------------------------- patches and references


def test_patches_are_the_slides_pixels_and_its_extended_focus(tmp_path: Path) -> None:
    data = TrainingData(slides=(SlideSource(SMEAR),))
    corpus, _ = gathered(tmp_path, recipe(patch=128), data)
    assert corpus.mpp == pytest.approx(0.243)
    assert corpus.z_step_um == pytest.approx(2.7)
    with open_slide(SMEAR) as slide:
        for file in files_of(corpus):
            place, stack = place_of(file), file.whole()
            assert (stack.planes == slide.read_stack(slide.planes[4:7], 0, *place, 128, 128)).all()
            truth = slide.read_region(slide.extended, 0, *place, 128, 128)
            assert (stack.truth_one == truth).all()
            assert (stack.truth_three == truth).all()


def test_planes_are_those_nearest_to_the_models_step(tmp_path: Path) -> None:
    path = tmp_path / "fine.ome.tif"
    write_ome(path, coloured(planes=9), PhysicalSizeZ=0.9, PhysicalSizeZUnit="µm")
    data = TrainingData(slides=(SlideSource(path, "fusion:argmax"),))
    corpus, _ = gathered(tmp_path, recipe(), data)
    with open_slide(path) as slide:
        wanted = [slide.planes[i] for i in (slide.zero - 3, slide.zero, slide.zero + 3)]
        file = corpus.train[0].files[0]
        expected = slide.read_stack(wanted, 0, *place_of(file), 64, 64)
        assert (file.whole().planes == expected).all()
    assert corpus.z_step_um == pytest.approx(2.7)


@pytest.mark.parametrize("method", ["argmax", "pyramid"])
def test_a_fused_reference_is_the_fusion_of_all_planes(tmp_path: Path, method: str) -> None:
    (source, *_) = slides(tmp_path, 1, planes=5)
    data = TrainingData(slides=(replace(source, reference=f"fusion:{method}"),))
    corpus, _ = gathered(tmp_path, recipe(patches_per_slide=3), data)
    with open_slide(source.path) as slide:
        whole = fuse(slide, planes="all", method=method).image
        for file in corpus.train[0].files:
            y, x = place_of(file)
            here = fuse(slide, Region(y, x, 64, 64), "all", method).image
            assert (file.whole().truth_one == here).all()
            assert (here == whole[y : y + 64, x : x + 64]).all()


def shifted_reference(folder: Path, shift: tuple[int, int]) -> SlideSource:
    """A slide, and a picture of the same place that begins ``shift`` further right and down."""
    big = texture(600, 600)
    soft = blurred(big, 1.5)
    write_ome(
        folder / "slide.ome.tif",
        np.stack([soft[50:450, 50:450]] * 3),
        PhysicalSizeX=0.25,
        PhysicalSizeXUnit="µm",
        PhysicalSizeY=0.25,
        PhysicalSizeYUnit="µm",
    )
    top, left = 50 + shift[0], 50 + shift[1]
    Image.fromarray(big[top : top + 400, left : left + 400]).save(folder / "truth.png")
    return SlideSource(folder / "slide.ome.tif", str(folder / "truth.png"))


def test_a_reference_file_is_registered(tmp_path: Path) -> None:
    source = shifted_reference(tmp_path, (12, -20))
    corpus, _ = gathered(tmp_path, recipe(), TrainingData(slides=(source,)))
    big = texture(600, 600)
    for file in files_of(corpus):
        y, x = place_of(file)
        assert (file.whole().truth_one == big[50 + y :, 50 + x :][:64, :64]).all()
        assert y >= 12, "the reference does not reach further up"


def test_a_reference_file_too_far_off_is_refused(tmp_path: Path) -> None:
    source = shifted_reference(tmp_path, (30, 40))  # 50 px of 0.25 um
    with pytest.raises(DataError, match=r"truth\.png lies 12\.5 um off slide\.ome\.tif"):
        gathered(tmp_path, recipe(reference_bound_um=12.0), TrainingData(slides=(source,)))
    gathered(tmp_path, recipe(reference_bound_um=13.0), TrainingData(slides=(source,)), "wider")


def test_a_reference_of_another_place_is_refused(tmp_path: Path) -> None:
    source = shifted_reference(tmp_path, (0, 0))
    Image.fromarray(texture(400, 400, seed=9)).save(tmp_path / "truth.png")
    with pytest.raises(DataError, match="was not found in slide"):
        gathered(tmp_path, recipe(), TrainingData(slides=(source,)))


def test_a_reference_of_another_scale_is_refused(tmp_path: Path) -> None:
    source = shifted_reference(tmp_path, (0, 0))
    other = tmp_path / "coarse.ome.tif"
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    write_ome(other, texture(200, 200)[None], **size, axes="ZYXS")
    with pytest.raises(DataError, match=r"0\.500 um per pixel"):
        gathered(tmp_path, recipe(), TrainingData(slides=(replace(source, reference=str(other)),)))


# ---------------------------------------------------------------------- slides that will not do


def test_slides_that_will_not_do_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (stack,) = slides(tmp_path, 1)
    single = tmp_path / "single.ome.tif"
    write_ome(single, coloured(planes=1))
    glass = tmp_path / "glass.ome.tif"
    write_ome(glass, np.full((3, 256, 256, 3), 250, np.uint8))
    cases: list[tuple[SlideSource, dict, type[FocusFuseError], str]] = [
        (SlideSource(tmp_path / "gone.ome.tif"), {}, SlideError, "does not exist"),
        (SlideSource(single), {}, PlaneError, "has 1 focus layer"),
        (SlideSource(stack.path), {}, DataError, "no extended focus to learn from"),
        (SlideSource(glass, "fusion:argmax"), {"foreground": 0.1}, DataError, "too few cells"),
        (stack, {"patch": 512}, FocusFuseError, "lower patch"),
        (replace(stack, reference=str(stack.path)), {}, DataError, "fuse it first"),
    ]
    for number, (source, changes, kind, words) in enumerate(cases):
        with pytest.raises(kind, match=words) as caught:
            gathered(tmp_path, recipe(**changes), TrainingData(slides=(source,)), f"run-{number}")
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")


def test_a_slide_that_vanishes_is_named(tmp_path: Path) -> None:
    sources = slides(tmp_path, 2)
    data = TrainingData(slides=sources)
    gathered(tmp_path, recipe(), data)
    sources[1].path.unlink()
    with pytest.raises(SlideError, match=r"slide-1\.ome\.tif does not exist"):
        gathered(tmp_path, recipe(), data)


# ---------------------------------------------------------------------- split


def test_slides_are_split_as_a_whole_and_the_split_is_kept(tmp_path: Path) -> None:
    data = TrainingData(slides=slides(tmp_path, 4), cache=tmp_path / "cache")
    corpus, split = gathered(tmp_path, recipe(), data)
    parts = [split[part] for part in ("train", "validation", "test")]
    assert sorted(name for part in parts for name in part) == [
        f"slide-{i}.ome.tif" for i in range(4)
    ]
    assert [len(part) for part in parts] == [2, 1, 1]
    used = [corpus.train[0].files, corpus.validation, corpus.test]
    for files, names in zip(used, parts, strict=True):
        folders = {file.path.parent.name.rsplit("-", 1)[0] for file in files}
        assert folders == {name.removesuffix(".tif") for name in names}
    assert len(corpus.validation) == 8
    run = TrainingRun(tmp_path / "run")
    split["train"], split["test"] = split["test"], split["train"]
    run.split_file.write_text(json.dumps(split))
    swapped = gather(recipe(), data, run)
    assert {f.path.parent for f in swapped.test} == {f.path.parent for f in corpus.train[0].files}


def test_parts_that_are_given_are_kept() -> None:
    names = [f"{i}" for i in range(6)]
    fixed = {"0": "test", "1": "train", "2": "validation"}
    drawn = draw(names, 5, fixed)
    assert fixed.items() <= drawn.items()
    assert "" not in drawn.values()
    assert set(draw(["a", "b"], 0).values()) == {"train", "validation"}
    assert draw(["a"], 0) == {"a": ""}
    assert draw(["a", "b"], 0, {"a": "validation"}) == {"a": "validation", "b": "train"}
    assert draw(["a", "b"], 0, {"a": "train", "b": "train"}) == {"a": "", "b": "train"}
    assert any(draw(names, seed) != draw(names, 0) for seed in range(1, 9))


def test_one_slide_gives_regions_that_never_overlap(tmp_path: Path) -> None:
    data = TrainingData(slides=slides(tmp_path, 1))
    corpus, split = gathered(tmp_path, recipe(patches_per_slide=100), data)
    assert split["train"] == split["validation"] == ["slide-0.ome.tif"]
    regions = {part: Region(*area) for part, area in split["regions"]["slide-0.ome.tif"].items()}
    used = {"train": corpus.train[0].files, "validation": corpus.validation, "test": corpus.test}
    seen = np.zeros((256, 320), int)
    for number, (part, files) in enumerate(used.items()):
        own = np.zeros((256, 320), bool)
        for file in files:
            y, x = place_of(file)
            assert regions[part].y <= y <= regions[part].stop_y - 64
            assert regions[part].x <= x <= regions[part].stop_x - 64
            own[y : y + 64, x : x + 64] = True
        seen += own
        assert own.any() == (number < 2 or part in regions)
    assert seen.max() == 1
    said = [record["text"] for record in TrainingRun(tmp_path / "run").records()]
    assert any("held out" in text for text in said)
    again, _ = gathered(tmp_path, recipe(patches_per_slide=100), data)
    assert [f.path for f in files_of(again)] == [f.path for f in files_of(corpus)]


def test_slides_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sources = (*slides(tmp_path / "a", 1), *slides(tmp_path / "b", 1))
    _, split = gathered(tmp_path, recipe(), TrainingData(slides=sources))
    assert len({*split["train"], *split["validation"]}) == 2


# ---------------------------------------------------------------------- cache


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    sources = slides(tmp_path, 3)
    found = []
    for name in ("one", "two"):
        data = TrainingData(slides=sources, cache=tmp_path / f"cache-{name}")
        corpus, split = gathered(tmp_path, recipe(patches_per_slide=5), data, name)
        found.append((split, [(f.path.name, f.path.read_bytes()) for f in files_of(corpus)]))
    assert found[0] == found[1]
    data = TrainingData(slides=sources, cache=tmp_path / "cache-one")
    other, _ = gathered(tmp_path, recipe(patches_per_slide=5, seed=8), data, "three")
    assert [f.path.name for f in files_of(other)] != [name for name, _ in found[0][1]]


def test_a_second_run_takes_what_the_first_cut(tmp_path: Path) -> None:
    data = TrainingData(slides=slides(tmp_path, 2), cache=tmp_path / "cache")
    first, _ = gathered(tmp_path, recipe(), data, "one")
    inodes = {file.path: file.path.stat().st_ino for file in files_of(first)}
    second, _ = gathered(tmp_path, recipe(), data, "two")
    assert {file.path: file.path.stat().st_ino for file in files_of(second)} == inodes


def test_a_changed_slide_is_cut_anew(tmp_path: Path) -> None:
    data = TrainingData(slides=slides(tmp_path, 2), cache=tmp_path / "cache")
    first, split = gathered(tmp_path, recipe(), data)
    changed = tmp_path / split["train"][0]
    write_ome(changed, coloured(seed=77))
    second, _ = gathered(tmp_path, recipe(), data)
    assert not {f.path for f in second.train[0].files} & {f.path for f in first.train[0].files}


def test_the_cache_stays_within_its_bound(tmp_path: Path) -> None:
    cache, one = tmp_path / "cache", stack_bytes(64, 3)
    data = TrainingData(slides=slides(tmp_path, 3), cache=cache)
    bound = one * 20 / 1e9  # 8 validate, 8 test, 4 are left for one slide
    corpus, _ = gathered(tmp_path, recipe(cache_gb=bound), data)
    assert len(corpus.train[0].files) == 4
    assert sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) <= bound * 1e9
    with pytest.raises(RecipeError, match="cache_gb"):
        gathered(tmp_path, recipe(cache_gb=bound / 2), data, "small")


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    stack = coloured(64, 64)
    paths = [tmp_path / f"{i}.stack.safetensors" for i in range(4)]
    for i, path in enumerate(paths):
        TrainingStack(stack, stack[0], stack[0], stack[0, ..., 0]).save(path)
        os.utime(path, (1000 - i, 1000 - i))
    (tmp_path / "notes.txt").write_text("somebody else's")
    size = paths[0].stat().st_size
    assert size <= stack_bytes(64, 3)
    make_room(tmp_path, keep=[paths[3]], needed=size, bound=3 * size)
    assert sorted(p.name[0] for p in tmp_path.glob("*.safetensors")) == ["0", "1", "3"]
    assert (tmp_path / "notes.txt").exists()


# ---------------------------------------------------------------------- masks


def test_where_another_plane_is_sharper_layer_0_is_blurred() -> None:
    slide = textured_slide(200, 300)
    labels = label_blur(slide.read_stack(slide.planes, 0, 0, 0, 200, 300), 1)
    assert (labels[:, 20:80] == 1).mean() > 0.98
    assert (labels[:, 220:280] == 1).mean() > 0.98
    assert (labels[:, 120:180] == 0).mean() > 0.98
    flat = np.full((3, 64, 64, 3), 200, np.uint8)
    assert (label_blur(flat, 1) == 255).all()
    assert (label_blur(flat[:1], 0) == 255).all()


def test_planes_within_the_depth_of_field_do_not_make_a_sharp_layer_unknown() -> None:
    sharp = texture(128, 128)
    stack = np.stack([blurred(sharp), sharp, sharp, blurred(sharp)])
    assert (label_blur(stack, 1, [-2.7, 0.0, 0.3, 2.7]) == 0).mean() > 0.95
    assert (label_blur(stack, 1) == 255).mean() > 0.95


def test_masks_of_drawn_smears_are_right_where_they_say_something() -> None:
    rng = np.random.default_rng(3)
    smear = draw_smear((384, 384), rng, depth_um=6.0, mpp=OPTICS.mpp)
    height = smear.height_map()
    stack = simulate_specimen(smear, height, rng, optics=OPTICS, camera=CAMERA, layers=5)
    labels = label_blur(stack.planes, 2)
    truth = blur_labels(OPTICS, height, 0.0)
    # What lies within half a step of layer 0 is sharpest there, though not all of it is in focus.
    near = np.abs(height) <= 1.35
    cells = foreground(stack.truth_one)
    assert truth[(labels == 1) & cells].mean() > 0.9
    assert near[(labels == 0) & cells].mean() > max(0.65, 2 * near[cells].mean())
    assert 0.01 < (labels != 255).mean() < 0.9


def test_a_blur_model_learns_from_all_planes_and_from_drawn_masks(tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    picture, mask = texture(128, 96), np.zeros((128, 96), np.uint8)
    mask[:, :50] = 255
    for name in "abc":
        Image.fromarray(picture).save(folder / f"{name}.png")
        Image.fromarray(mask).save(folder / f"{name}.mask.png")
    config = replace(recipe(network={}), architecture="small-blur", annotated_share=0.25)
    (source, *_) = slides(tmp_path, 2, planes=5)
    data = TrainingData(slides=slides(tmp_path, 2, planes=5), annotated=folder)
    corpus, split = gathered(tmp_path, config, data)
    groups = {group.name: group for group in corpus.train}
    assert groups["annotated"].weight / sum(g.weight for g in corpus.train) == pytest.approx(
        0.25 / (0.25 + 0.75 * (1 - config.simulated_share))
    )
    for file in groups["annotated"].files:
        y, x = place_of(file)
        stack = file.whole()
        assert stack.planes.shape == (1, 64, 64, 3)
        assert (stack.blurred == (mask[y : y + 64, x : x + 64] > 127)).all()
    with open_slide(source.path) as slide:
        labels = label_blur(slide.read_stack(slide.planes, 0, 0, 0, 256, 320), slide.zero)
    mine = [f for f in files_of(corpus) if f.path.parent.name.startswith("slide-0")]
    y, x = place_of(mine[0])
    inner = np.s_[16:48, 16:48]
    assert (mine[0].whole().blurred[inner] == labels[y:, x:][inner]).mean() > 0.97
    assert mine[0].whole().planes.shape[0] == 1
    assert any(name.endswith(".png") for name in split["validation"])
    assert len(corpus.validation) <= 8


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    for kind, size in (("images", (96, 96)), ("masks", (96, 90))):
        (tmp_path / kind).mkdir()
        for name in "ab":
            Image.new("RGB", size).save(tmp_path / kind / f"{name}.png")
    config = replace(recipe(network={}), architecture="small-blur")
    with pytest.raises(DataError, match=r"has 96 x 96 pixels and its mask 96 x 90"):
        gathered(tmp_path, config, TrainingData(annotated=tmp_path))


# ---------------------------------------------------------------------- simulated beside slides


@pytest.mark.slow
def test_own_sharp_images_and_slides_share_the_patches(tmp_path: Path) -> None:
    folder = tmp_path / "sharp"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(texture(200, 180 + seed, seed)).save(folder / f"{seed}.png")
    config = recipe(data_set="images", stacks=2, stack_px=96, degraded=1, simulated_share=0.75)
    data = TrainingData(images=folder, slides=slides(tmp_path, 2))
    corpus, split = gathered(tmp_path, config, data)
    weights = {group.name: group.weight for group in corpus.train}
    assert weights == pytest.approx({"stack": 0.5, "degraded": 0.25, "slides": 0.25})
    assert len(split["train"]) == 1 + 1
    assert all("slide-" in str(file.path) for file in corpus.validation)
    alone, split = gathered(tmp_path, config, TrainingData(images=folder), "alone")
    assert [len(split[part]) for part in ("train", "validation", "test")] == [1, 1, 1]
    assert len(alone.validation) == 8
    assert {group.name for group in alone.train} == {"stack", "degraded"}


# ---------------------------------------------------------------------- what --data means


def test_paths_are_understood(tmp_path: Path) -> None:
    stack = coloured(64, 64)
    many = tmp_path / "many"
    many.mkdir()
    shutil.copy(SMEAR, many / "smear.ome.tif")
    tifffile.imwrite(many / "deep.tif", np.zeros((64, 64), np.uint16))
    (many / "notes.txt").write_text("not a slide")
    write_ome(many / "stack.ome.tif", stack)
    write_folder(many / "layers", stack)
    twins = tmp_path / "twins"
    twins.mkdir()
    for name in "ab":
        write_ome(twins / f"{name}.ome.tif", stack)
    listed = tmp_path / "listed"
    listed.mkdir()
    (listed / "slides.toml").write_text(
        '[[slides]]\npath = "../many/stack.ome.tif"\nreference = "fusion:argmax"\npart = "test"\n'
    )
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    Image.fromarray(stack[0]).save(drawn / "a.png")
    Image.fromarray(stack[0, ..., 0]).save(drawn / "a.mask.png")
    sharp = tmp_path / "sharp"
    sharp.mkdir()
    Image.fromarray(stack[0]).save(sharp / "only.png")
    (tmp_path / "set.toml").write_text(
        'name = "s"\ndoi = ""\nlicence = ""\ncitation = ""\nmpp = 0.25\n[train]\n"only.png" = "0"\n'
        "[validation]\n[calibration]\n[test]\n"
    )

    def found(path: Path, sharp: str = "cric") -> list[tuple[str, str]]:
        data = training_data([path], sharp=sharp)
        assert data.images is None
        assert data.annotated is None
        return [(source.path.name, source.reference) for source in data.slides]

    assert found(SMEAR) == [("smear.ome.tif", "extended")]
    assert found(many) == [
        ("layers", "fusion:evidence"),
        ("smear.ome.tif", "extended"),
        ("stack.ome.tif", "fusion:evidence"),
    ]
    assert found(many / "layers") == [("layers", "fusion:evidence")]
    assert [name for name, _ in found(twins)] == ["a.ome.tif", "b.ome.tif"]
    assert found(listed) == found(listed / "slides.toml") == [("stack.ome.tif", "fusion:argmax")]
    assert training_data([drawn]) == TrainingData(annotated=drawn)
    assert training_data([sharp], sharp="images") == TrainingData(images=sharp)
    of_set = str(tmp_path / "set.toml")
    assert training_data([sharp], tmp_path / "c", of_set).images == sharp
    both = training_data([sharp, SMEAR, drawn], tmp_path / "c", of_set)
    assert (both.images, both.annotated, both.cache) == (sharp, drawn, tmp_path / "c")
    assert len(both.slides) == 1
    for path, words in (
        (tmp_path / "gone", "does not exist"),
        (sharp, "holds neither"),
    ):
        with pytest.raises(DataError, match=words):
            training_data([path])
    with pytest.raises(RecipeError, match="Both"):
        training_data([sharp, sharp], sharp="images")
