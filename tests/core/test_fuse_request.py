from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from drawn_slide import Drawn
from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.fusion.classical import ARGMAX
from napari_focusfuse.fusion.method import MethodInfo
from napari_focusfuse.fusion.region import finish, run_fusion
from napari_focusfuse.layer_metadata import ViewWindow
from napari_focusfuse.slide import PlaneError, RegionError
from napari_focusfuse.widgets.fuse_request import (
    FuseRequest,
    MethodChoice,
    PlaneChoice,
    describe,
    duration,
    is_large,
    map_warning,
    maps_of,
    method_choices,
    preferred_method,
    progress,
    regions_question,
    resolve,
    resolve_regions,
    size_question,
)

SINGLE = MethodInfo("swift-single", "Swift, one layer", "restoration", (0,), 40, 8, 2.7, 0.24)
THREE = MethodInfo(
    "swift-three", "Swift, three layers", "restoration", (-1, 0, 1), 40, 8, 2.7, 0.24
)


def request(
    slide: Drawn | None = None,
    *,
    wanted: PlaneChoice = "three",
    plane: int = 1,
    box: tuple[float, float, float, float] = (100.0, 200.0, 700.5, 900.0),
) -> FuseRequest:
    slide = slide or Drawn(planes=3, z_um=(-2.7, 0.0, 2.7), mpp=(0.25, 0.25))
    factors = tuple((level.downsample[0], level.downsample[1]) for level in slide.levels)
    return FuseRequest(slide, "argmax", wanted, ViewWindow(plane, *box), factors)


def test_models_of_a_family_are_one_entry_with_the_planes_they_take() -> None:
    assert method_choices((ARGMAX, SINGLE, THREE)) == (
        MethodChoice("argmax", "Sharpest layer", ("three", "all", "one"), ARGMAX.advice),
        MethodChoice("swift", "Swift", ("three", "one")),
    )
    assert method_choices((THREE,)) == (MethodChoice("swift-three", "Swift", ("three",)),)


def test_the_default_is_the_swift_model_where_there_is_one() -> None:
    assert preferred_method(method_choices((ARGMAX, SINGLE, THREE))) == "swift"
    assert preferred_method(method_choices((ARGMAX,))) == "argmax"


def test_a_request_means_what_is_in_view_around_the_sliders_plane() -> None:
    plan = resolve(request())
    assert [plane.index for plane in plan.planes] == [0, 1, 2]
    assert plan.centre.index == 1
    assert plan.level == 0
    region = plan.region
    assert (region.y, region.x, region.stop_y, region.stop_x) == (100, 200, 701, 900)
    one = resolve(request(wanted="one", plane=2))
    assert [plane.index for plane in one.planes] == [2]


def test_the_end_of_the_stack_and_an_empty_view_are_refused() -> None:
    with pytest.raises(PlaneError, match="fuse one layer"):
        resolve(request(plane=2))
    with pytest.raises(RegionError, match="move it into view"):
        resolve(request(box=(-500.0, 0.0, -100.0, 100.0)))


def test_the_line_before_the_click() -> None:
    plan = resolve(request())
    count = f"{len(plan.tiles)} tiles"
    each = 4 / len(plan.tiles)
    assert describe(plan, each) == f"layers -1, 0, +1 · 0.25 um/px · {count} · about 4 s"
    assert describe(plan, None).endswith(f"{count} · time unknown until the first tile")
    small = resolve(request(Drawn(mpp=None), wanted="one", box=(0.0, 0.0, 9.0, 9.0)))
    assert describe(small, 0.1) == "layer 0 · pixel size unknown · 1 tile · about 1 s"


def test_large_jobs_are_those_of_many_tiles_or_much_time() -> None:
    plan = resolve(request())
    assert not is_large(plan, None)
    assert not is_large(plan, 1.0)
    assert is_large(plan, 60.0)
    wide = resolve(
        request(Drawn(9000, 9000, 3, z_um=(-2.7, 0.0, 2.7)), box=(0.0, 0.0, 9000.0, 9000.0))
    )
    assert is_large(wide, None)
    assert size_question(wide, 0.5).startswith("The view covers 81 megapixels, ")
    assert "min. Fuse all of it?" in size_question(wide, 1.0)


def test_more_than_memory_holds_is_refused() -> None:
    with pytest.raises(RegionError, match=r"covers 400 megapixels.*zoom in"):
        resolve(request(Drawn(20_000, 20_000, 3), box=(0.0, 0.0, 20_000.0, 20_000.0)))


def test_the_line_while_it_runs() -> None:
    assert progress(0, 12, 0.5) == "loading …"
    assert progress(2, 12, 0.5) == "2 of 12 tiles · about 5 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (4.4, "4 s"), (99, "99 s"), (150, "2 min"), (9000, "2 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_planning_needs_neither_window_nor_torch() -> None:
    code = (
        "import sys, napari_focusfuse.widgets.fuse_request, napari_focusfuse.layer_metadata\n"
        "print(sorted({'torch', 'napari', 'qtpy', 'PyQt6'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_depth_is_made_where_it_is_wanted_and_can_be_measured() -> None:
    three, one = resolve(request()), resolve(request(wanted="one"))
    assert maps_of(three, ()) == ("mask",)
    assert maps_of(three, {"mask", "depth"}) == ("mask", "depth")
    assert map_warning(three, {"depth"}) is None
    assert maps_of(one, {"depth", "confidence"}) == ("mask",)
    assert "3 focus layers" in (map_warning(one, {"depth"}) or "")
    assert map_warning(one, {"mask"}) is None


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_layers_of_any_slide_are_fused_by_every_method_that_takes_any_number(
    count: int,
) -> None:
    heights = tuple(2.7 * index for index in range(count))
    slide = Drawn(90, 110, count, z_um=heights, mpp=(0.25, 0.25))
    view = ViewWindow(0, 0.0, 0.0, 90.0, 110.0)
    names = [choice.name for choice in method_choices() if "all" in choice.planes]
    assert {"evidence", "argmax", "pyramid", "dtcwt", "wavelet", "guided"} <= set(names)
    for name in names:
        plan = resolve(FuseRequest(slide, name, "all", view, ((1.0, 1.0),)))
        assert plan.planes == slide.planes
        image = finish(run_fusion(plan, load_method(plan.info, "cpu"))).image
        assert image.shape == (90, 110, 3)
        if count == 1:  # rounding may show in the last bit
            alone = slide.read_region(slide.planes[0], 0, 0, 0, 90, 110)
            assert np.abs(image.astype(int) - alone).max() <= 1, name


def test_two_layers_are_fused_together_or_alone() -> None:
    slide = Drawn(planes=2, z_um=(0.0, 2.7), mpp=(0.25, 0.25))
    with pytest.raises(PlaneError, match=r"fuse one layer, or both\."):
        resolve(request(slide, plane=0))


def test_a_region_that_cannot_be_fused_is_named() -> None:
    windows = [ViewWindow(1, *box) for box in ((0, 0, 90, 90), (0, 0, 90, 0.0))]
    asked = request()
    assert [plan.region.height for plan in resolve_regions(asked, windows[:1])] == [90]
    with pytest.raises(RegionError, match="Region 2 is empty or lies outside"):
        resolve_regions(asked, windows)
    at_the_end = [ViewWindow(2, 0.0, 0.0, 90.0, 90.0)]
    with pytest.raises(PlaneError, match=r"Region 1: .*fuse one layer"):
        resolve_regions(asked, at_the_end)


def test_many_regions_ask_first() -> None:
    plan = resolve(request())
    assert regions_question([plan], 0.1) is None
    many = [plan] * 200
    assert "200 regions" in (regions_question(many, None) or "")
    assert "unknown" in (regions_question(many, None) or "")
    assert "about 2 h" in (regions_question(many, 10.0) or "")
