"""Planes that drifted: found to a fraction of a pixel, moved on request, left alone otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from shell import Shell
from shell import pixels as shown

from napari_focusfuse import (
    fuse,
    fuse_stack,
    open_slide,
    read_provenance,
    register_stack,
    registered,
    slide_job,
)
from napari_focusfuse.fusion.catalogue import method_info
from napari_focusfuse.fusion.plan import plan_fusion
from napari_focusfuse.metrics import psnr
from napari_focusfuse.plane_registration import RegistrationError
from napari_focusfuse.plane_transform import PlaneTransform, resample
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import Region, SlideError
from napari_focusfuse.whole_slide import SlideJob
from slide_files import write_ome
from slide_jobs import run

HEIGHT, WIDTH = 224, 256
MARGIN = 24
DRIFT = (
    PlaneTransform(1.004, 2.3, -1.7),
    PlaneTransform(1.002, 1.1, -0.6),
    PlaneTransform(),
    PlaneTransform(0.998, -0.7, 1.4),
    PlaneTransform(0.996, -1.9, 2.9),
)
STILL = (PlaneTransform(),) * 5


@cache
def scene() -> np.ndarray:
    """A textured (Y, X) picture in [0, 1] that reaches beyond the field of view."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN))
    layers = [gaussian_filter(noise, sigma) * sigma for sigma in (1.2, 5.0)]
    return np.clip(0.5 + 0.3 * np.sum(layers, axis=0), 0, 1).astype(np.float32)


def seen(picture: np.ndarray, move: PlaneTransform) -> np.ndarray:
    """What a plane that lies so against the middle one shows of a picture."""
    back = PlaneTransform(1 / move.scale, -move.y / move.scale, -move.x / move.scale)
    whole = Region(0, 0, HEIGHT, WIDTH)
    rows, columns = back.positions(whole, (HEIGHT, WIDTH), (1.0, 1.0))
    return resample(
        lambda r: picture[r.y : r.stop_y, r.x : r.stop_x],
        picture.shape,
        rows + MARGIN,
        columns + MARGIN,
    )


@cache
def drifted(moves=DRIFT) -> np.ndarray:
    """(Z, Y, X) uint16 stack: in every plane another fifth is sharp, the rest the more blurred."""
    picture, rng = scene(), np.random.default_rng(4)
    soft = [picture, *(gaussian_filter(picture, sigma) for sigma in (1.0, 2.0, 3.0, 4.0))]
    owner = np.arange(picture.shape[1]) * len(moves) // picture.shape[1]
    planes = []
    for z, move in enumerate(moves):
        plane = np.choose(np.abs(owner - z)[None, :], soft)
        planes.append(seen(plane, move) + 0.003 * rng.standard_normal((HEIGHT, WIDTH)))
    return np.rint(np.clip(planes, 0, 1) * 65535).astype(np.uint16)


def apart(found: PlaneTransform, true: PlaneTransform) -> float:
    """Most that the corners lie apart, in pixels."""
    difference = PlaneTransform(1 + found.scale - true.scale, found.y - true.y, found.x - true.x)
    return difference.reach((HEIGHT, WIDTH))


def test_shifts_and_scales_are_found_to_a_tenth_of_a_pixel_at_the_corners():
    for found, true in zip(register_stack(drifted()), DRIFT, strict=True):
        assert found.found
        assert apart(found, true) < 0.1


def test_aligned_planes_stay_where_they_are():
    for found in register_stack(drifted(STILL)):
        assert apart(found, PlaneTransform()) <= 0.05


def test_planes_too_far_apart_are_refused_in_a_sentence():
    far = drifted((PlaneTransform(y=9.0), PlaneTransform(), PlaneTransform()))
    with pytest.raises(RegistrationError, match=r"Plane 0 lies 9\.\d px down .* at most 4 px"):
        register_stack(far)


def test_a_plane_that_shows_nothing_stays_and_is_told():
    stack = drifted()[1:4].copy()
    stack[0] = 30000
    with pytest.warns(UserWarning, match="Plane 0 did not agree better"):
        moves = register_stack(stack)
    assert moves[0] == PlaneTransform(found=False)
    assert apart(moves[2], DRIFT[3]) < 0.1
    with pytest.warns(UserWarning, match="left as it lies"):
        assert register_stack(stack[:, :9, :1])[2].is_identity


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_drifted_stack_fuses_as_well_as_an_aligned_one(colour, dtype):
    def given(stack):
        values = stack if dtype == "uint16" else np.rint(stack / 257).astype(np.uint8)
        return np.repeat(values[..., None], 3, -1) if colour else values

    def score(fused):
        assert fused.dtype == dtype
        grey = (fused[..., 1] if colour else fused) / np.iinfo(dtype).max
        inner = (slice(12, -12), slice(12, -12))
        reference = np.rint(255 * seen(scene(), PlaneTransform())).astype(np.uint8)
        return psnr(np.rint(255 * grey).astype(np.uint8)[inner], reference[inner])

    stack = given(drifted())
    plain = fuse_stack(stack, "argmax", device="cpu")
    aligned = score(fuse_stack(given(drifted(STILL)), "argmax", device="cpu"))
    found = score(fuse_stack(stack, "argmax", device="cpu", register=True))
    assert found > aligned - 1.5
    assert found > score(plain) + 5


def test_nothing_is_registered_unless_asked_and_nothing_moved_keeps_its_bits():
    stack = drifted()
    plain = fuse_stack(stack, "argmax", device="cpu")
    same = fuse_stack(stack, "argmax", device="cpu", register=STILL)
    np.testing.assert_array_equal(plain, same)
    assert (plain != fuse_stack(stack, "argmax", device="cpu", register=DRIFT)).any()


def coloured_slide() -> ArraySlide:
    stack = np.rint(drifted() / 257).astype(np.uint8)
    pyramid = [np.repeat(stack[..., None], 3, -1)]
    halves = stack.reshape(5, HEIGHT // 2, 2, WIDTH // 2, 2).mean((2, 4))
    pyramid.append(np.repeat(np.rint(halves).astype(np.uint8)[..., None], 3, -1))
    return ArraySlide(pyramid, name="drifted")


def test_a_registered_slide_shows_every_plane_where_the_middle_one_is():
    slide = registered(coloured_slide())
    for level, bound in ((0, 0.1), (1, 0.1)):
        height, width = slide.levels[level].shape
        planes = slide.read_stack(slide.planes, level, 0, 0, height, width)[..., 0]
        for move in register_stack(planes):
            assert move.reach((height, width)) < bound
        part = slide.read_region(slide.planes[0], level, 17, 23, 40, 50)
        np.testing.assert_array_equal(part[..., 0], planes[0, 17:57, 23:73])
    assert [level.shape for level in slide.levels] == [(HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2)]


def test_the_provenance_names_what_was_moved():
    slide = coloured_slide()
    made = fuse(registered(slide), planes=(-1, 0, 1), method="argmax", device="cpu").provenance
    assert [entry["found"] for entry in made["registration"]] == [True] * 3
    for entry, true in zip(made["registration"], DRIFT[1:4], strict=True):
        assert entry["shift"] == pytest.approx([true.y, true.x], abs=0.1)
        assert entry["scale"] == pytest.approx(true.scale, abs=5e-4)
    stored = fuse(slide, planes=(-1, 0, 1), method="argmax", device="cpu").provenance
    assert "registration" not in stored


@pytest.fixture
def file(tmp_path):
    """The drifted planes as a slide."""
    stack = np.rint(drifted() / 257).astype(np.uint8)
    return write_ome(tmp_path / "drifted.ome.tif", np.repeat(stack[..., None], 3, -1))


def test_a_job_moves_the_planes_wherever_it_is_done_and_goes_on(file, tmp_path):
    with open_slide(file) as stored:
        slide = registered(stored)
        plan = plan_fusion(
            slide, method_info("argmax", 5), slide.planes, 0, Region(0, 0, HEIGHT, WIDTH)
        )
        job = slide_job(plan, {"image": tmp_path / "out.ome.tif"}, compression="zstd")
        expected = fuse(slide, planes="all", method="argmax", device="cpu")
    sent = SlideJob.from_json(json.loads(json.dumps(job.as_json())))
    assert sent == job
    made = run(sent).provenance
    assert made["registration"] == expected.provenance["registration"]
    with open_slide(tmp_path / "out.ome.tif") as fused:
        pixels = fused.read_region(fused.planes[0], 0, 0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(pixels, expected.image)
    nudged = (replace(job.moves[0], y=job.moves[0].y + 1e-9), *job.moves[1:])
    assert run(replace(job, moves=nudged)).already_done, "another thread count may find it so"
    with pytest.raises(SlideError, match="other focus layers"):
        replace(job, moves=job.moves[1:]).open()


def test_the_shell_registers_on_request(file, tmp_path, capsys):
    shell = Shell(capsys)
    reference = np.rint(255 * seen(scene(), PlaneTransform())).astype(np.uint8)
    inner = (slice(12, -12), slice(12, -12))
    scores = {}
    for name, options in (("plain", ()), ("moved", ("--register",))):
        out = tmp_path / f"{name}.png"
        common = ("--planes", "all", "--method", "argmax", "--device", "cpu")
        answer = shell("fuse", file, "-o", out, *common, *options)
        assert answer.code == 0, answer.err
        assert ("layers moved onto the middle one, by up to 3" in answer.out) == bool(options)
        assert ("registration" in read_provenance(out)) == bool(options)
        scores[name] = psnr(shown(out)[..., 1][inner], reference[inner])
    assert scores["moved"] > scores["plain"] + 5


def test_an_open_slide_is_registered_once(monkeypatch):
    slide = coloured_slide()
    first = registered(slide)
    monkeypatch.setattr(type(slide), "_read", None)  # nothing can be read any more
    assert registered(slide).transforms == first.transforms
