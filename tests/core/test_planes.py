from __future__ import annotations

import pytest

from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.fusion.method import MethodInfo
from napari_focusfuse.fusion.planes import (
    choose_planes,
    offset_names,
    scale_warning,
    step_warning,
)
from napari_focusfuse.slide import PlaneError, Slide
from textured_slide import textured_slide

THREE = MethodInfo("m3", "Model of three", "restoration", (-1, 0, 1), 8, z_step_um=2.7, mpp=0.24)
ONE = MethodInfo("m1", "Model of one", "restoration", (0,), 8, mpp=0.24)


def slide_of(planes: int, step: float | None = None, **about) -> Slide:
    z_um = None if step is None else [step * (index - planes // 2) for index in range(planes)]
    return textured_slide(8, 8, planes, z_um=z_um, **about)


def offsets(slide, planes):
    return [slide.offset(plane) for plane in planes]


@pytest.mark.parametrize(
    ("step", "info", "expected"),
    [
        (2.7, THREE, [-1, 0, 1]),
        (0.9, THREE, [-3, 0, 3]),
        (0.5, THREE, [-5, 0, 5]),
        (10.0, THREE, [-1, 0, 1]),  # the nearest is layer 0 itself, which is taken
        (None, THREE, [-1, 0, 1]),
        (0.9, ARGMAX, [-1, 0, 1]),
    ],
)
def test_three_planes_are_nearest_to_the_models_step(step, info, expected):
    slide = slide_of(11, step)
    assert offsets(slide, choose_planes(slide, info, "three")) == expected


def test_the_centre_may_be_another_plane_than_layer_0():
    slide = slide_of(11, 2.7)
    centre = slide.planes[7]
    assert offsets(slide, choose_planes(slide, THREE, "three", centre)) == [1, 2, 3]
    assert offsets(slide, choose_planes(slide, ONE, "one", centre)) == [2]
    assert offsets(slide, choose_planes(slide, ARGMAX, (-2, 0), centre)) == [0, 2]


def test_offsets_are_literal_and_keep_their_order():
    slide = slide_of(5, 0.1)
    assert offsets(slide, choose_planes(slide, THREE, (2, 0, -1))) == [2, 0, -1]


def test_all_planes_by_increasing_z():
    slide = slide_of(5)
    assert choose_planes(slide, ARGMAX, "all") == slide.planes


@pytest.mark.parametrize(
    ("planes", "zero", "info", "wanted", "message"),
    [
        (5, 0, THREE, "three", "at the end of the stack, with none below it; fuse one layer"),
        (5, 4, ARGMAX, "three", "at the end of the stack, with none above it; fuse one layer"),
        (1, 0, THREE, "three", "has 1 focus layer, so three cannot be fused; fuse one layer"),
        (2, 0, ARGMAX, "three", "has 2 focus layers, so three cannot be fused; fuse one layer"),
        (5, 2, THREE, "one", "takes 3 focus layers, not 1"),
        (5, 2, ONE, "three", "takes 1 focus layer, not 3"),
        (5, 2, THREE, "all", "takes 3 focus layers, not 5"),
        (5, 2, THREE, (-3, 0, 3), r"no focus layer -3; it has layers -2 to \+2"),
        (5, 2, THREE, (0, 0, 1), "name each layer once"),
        (5, 2, ARGMAX, (), "name each layer once"),
        (5, 2, ARGMAX, "some", "names no focus layers"),
    ],
)
def test_impossible_choices_are_refused_in_one_sentence(planes, zero, info, wanted, message):
    with pytest.raises(PlaneError, match=message) as error:
        choose_planes(slide_of(planes, zero=zero), info, wanted)
    assert str(error.value).count("\n") == 0
    assert error.value.exit_code == 4


@pytest.mark.parametrize(("step", "warned"), [(2.7, False), (4.0, False), (4.2, True), (1.0, True)])
def test_a_step_far_from_the_models_is_said(step, warned):
    slide = slide_of(3, step)
    sentence = step_warning(slide, THREE, slide.planes)
    assert (sentence is not None) == warned
    if sentence is not None:
        assert f"{step:g} um apart" in sentence


def test_a_step_is_not_judged_where_it_is_unknown_or_does_not_matter():
    unknown, known = slide_of(3), slide_of(3, 9.0)
    assert step_warning(unknown, THREE, unknown.planes) is None
    assert step_warning(known, ARGMAX, known.planes) is None
    assert step_warning(known, THREE, known.planes[:1]) is None


@pytest.mark.parametrize(
    ("mpp", "sentence"),
    [
        (None, "pixel size unknown, treated as the model's 0.24 um/px"),
        ((0.24, 0.24), None),
        ((0.35, 0.35), None),
        ((0.24, 0.48), "Model of three was made for 0.24 um/px, these pixels are 0.48 um"),
        ((0.1, 0.1), "Model of three was made for 0.24 um/px, these pixels are 0.10 um"),
    ],
)
def test_a_pixel_size_far_from_the_models_is_said(mpp, sentence):
    assert scale_warning(THREE, mpp) == sentence
    assert scale_warning(ARGMAX, mpp) is None


def test_offsets_for_the_user():
    slide = slide_of(3)
    assert offset_names(slide, slide.planes) == "-1, 0, +1"
