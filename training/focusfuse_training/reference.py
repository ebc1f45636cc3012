"""What a model trained on a slide should return: its reference, read in squares."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from napari_focusfuse.benchmark_definition import OPTICS, DataError
from napari_focusfuse.fusion import (
    FusionMethod,
    FusionPlan,
    choose_planes,
    load_method,
    method_info,
)
from napari_focusfuse.fusion.region import finish, plan_fusion, run_fusion
from napari_focusfuse.readers import open_slide
from napari_focusfuse.readers.folder import PICTURE_SUFFIXES, open_picture
from napari_focusfuse.registration import MIN_PEAK, Registration, register
from napari_focusfuse.slide import FocalPlane, Region, Slide, UInt8Image
from napari_focusfuse.tiles import TileGrid
from napari_focusfuse.training_run import SlideSource

from .squares import Place

FUSION = "fusion:"
_WINDOWS = 3
"""Places at which a reference file is registered; the clearest counts."""
_WINDOW_PX = 1024
_SAME_SCALE = 0.01
"""Largest difference of pixel sizes that does not count: half a pixel over 50."""


class Reference(ABC):
    """The truth for one slide."""

    key: str
    """What decides its pixels beside the slide and the place."""

    def covers(self, y: int, x: int, side: int) -> bool:
        """Tell whether it shows all of a square of the slide."""
        return True

    @abstractmethod
    def read(self, y: int, x: int, side: int) -> UInt8Image:
        """Return the (side, side, 3) truth for a square of the slide's level 0."""


class PlaneReference(Reference):
    """One plane of the slide itself: its extended focus, or layer 0 where no truth is needed."""

    def __init__(self, slide: Slide, plane: FocalPlane) -> None:
        self._slide, self._plane = slide, plane
        self.key = f"plane {plane.index}"

    def read(self, y: int, x: int, side: int) -> UInt8Image:
        """Return the plane's pixels."""
        return self._slide.read_region(self._plane, 0, y, x, side, side)


class FusionReference(Reference):
    """The fusion of all planes of the slide, computed square by square on the slide's own grid."""

    def __init__(self, slide: Slide, name: str) -> None:
        if len(slide.planes) < 2:
            raise DataError(
                f"{slide.path.name} has one focus layer, so its fusion is no reference; name a "
                "file with the truth instead."
            )
        self._slide = slide
        self._info = method_info(name, len(slide.planes))
        self._planes = choose_planes(slide, self._info, "all")
        self._method: FusionMethod | None = None
        facts = [self._info.name, self._info.model_hash, self._info.settings]
        self.key = f"fusion {json.dumps(facts, sort_keys=True)}"

    def read(self, y: int, x: int, side: int) -> UInt8Image:
        """Fuse the square."""
        self._method = self._method or load_method(self._info)
        region = Region(y, x, side, side)
        plan = plan_fusion(self._slide, self._info, self._planes, 0, region)
        return finish(run_fusion(_in_one_tile(plan), self._method)).image


def _in_one_tile(plan: FusionPlan) -> FusionPlan:
    """Move the grid so that one tile covers a small region, which no pixel shows if it is exact.

    On the slide's own grid a square of 512 px lies in up to nine tiles of 512 px.
    """
    if not plan.info.exact:
        return plan
    region, step = plan.region, plan.grid.alignment
    margin = -(-plan.info.halo // step) * step
    corner = region.y // step * step, region.x // step * step
    longest = max(region.stop_y - corner[0], region.stop_x - corner[1])
    active = -(-longest // step) * step
    start = -(-corner[0] % active), -(-corner[1] % active)
    grid = TileGrid(active + 2 * margin, margin, 0, step, start)
    tiles = grid.tiles_for(region.y, region.x, region.height, region.width)
    return replace(plan, grid=grid, tiles=tiles)


class FileReference(Reference):
    """A plane of another file, which shows the same place a few pixels off."""

    def __init__(self, other: Slide, plane: FocalPlane, shift: tuple[int, int], key: str) -> None:
        self._other, self._plane, self._shift = other, plane, shift
        self.key = f"{key} {shift}"

    def covers(self, y: int, x: int, side: int) -> bool:
        """Tell whether the other file reaches that far."""
        top, left = y - self._shift[0], x - self._shift[1]
        height, width = self._other.levels[0].shape
        return 0 <= top <= height - side and 0 <= left <= width - side

    def read(self, y: int, x: int, side: int) -> UInt8Image:
        """Return the other file's pixels of the square."""
        top, left = y - self._shift[0], x - self._shift[1]
        return self._other.read_region(self._plane, 0, top, left, side, side)


@contextmanager
def opened(
    slide: Slide, source: SlideSource, places: Sequence[Place], side: int, bound_um: float
) -> Iterator[Reference]:
    """Open a slide's reference.

    Parameters
    ----------
    places, side
        Squares of the slide that hold cells: there a reference file is registered.
    bound_um
        Largest shift of a reference file in micrometres.

    Raises
    ------
    DataError, SlideError, FocusFuseError
        If the slide or the file has no such reference.
    """
    if source.reference == "extended":
        if slide.extended is None:
            raise DataError(
                f"{slide.path.name} has no extended focus to learn from; give it the reference "
                '"fusion:evidence", or a file that has one.'
            )
        yield PlaneReference(slide, slide.extended)
    elif source.reference.startswith(FUSION):
        yield FusionReference(slide, source.reference.removeprefix(FUSION))
    else:
        with _opened_file(Path(source.reference)) as other:
            yield _registered(slide, other, places, side, bound_um)


def _opened_file(path: Path) -> AbstractContextManager[Slide]:
    is_picture = path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES
    return open_picture(path) if is_picture else open_slide(path)


def _registered(
    slide: Slide, other: Slide, places: Sequence[Place], side: int, bound_um: float
) -> FileReference:
    """Find a reference file's place over the slide, or refuse it."""
    plane = other.extended or (other.planes[0] if len(other.planes) == 1 else None)
    if plane is None:
        raise DataError(
            f"{other.path.name} has {len(other.planes)} focus layers and no extended focus, so it "
            "is no reference; fuse it first."
        )
    _check_scale(slide, other)
    found = [_register_at(slide, other, plane, place, side) for place in _spread(places)]
    best = max(found, key=lambda each: each.peak, default=Registration((0, 0), 0.0))
    if best.peak < MIN_PEAK:
        raise DataError(
            f"{other.path.name} was not found in {slide.path.name}: the correlation peak is "
            f"{best.peak:.0f} and {MIN_PEAK:.0f} is needed; name a reference of the same place and "
            "scale."
        )
    mpp = slide.mpp or other.mpp or (OPTICS.mpp, OPTICS.mpp)
    distance = math.hypot(best.shift[0] * mpp[0], best.shift[1] * mpp[1])
    if distance > bound_um:
        raise DataError(
            f"{other.path.name} lies {distance:.1f} um off {slide.path.name} and at most "
            f"{bound_um:g} um are allowed; name another reference, or raise reference_bound_um."
        )
    return FileReference(other, plane, best.shift, identity(other.path))


def _check_scale(slide: Slide, other: Slide) -> None:
    if slide.mpp is None or other.mpp is None:
        return
    if any(abs(a / b - 1) > _SAME_SCALE for a, b in zip(slide.mpp, other.mpp, strict=True)):
        raise DataError(
            f"{other.path.name} has {other.mpp[0]:.3f} um per pixel and {slide.path.name} "
            f"{slide.mpp[0]:.3f}; name a reference of the slide's own scale."
        )


def _spread(places: Sequence[Place]) -> list[Place]:
    """Return a few of the squares, from all over the slide."""
    count = min(_WINDOWS, len(places))
    return [places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count)]


def _register_at(
    slide: Slide, other: Slide, plane: FocalPlane, place: Place, side: int
) -> Registration:
    """Register a window of up to 1024 px around a square that lies in both pictures."""
    shape = [min(a, b) for a, b in zip(slide.levels[0].shape, other.levels[0].shape, strict=True)]
    size = [min(_WINDOW_PX, length) for length in shape]
    y, x = (
        max(0, min(at + side // 2 - span // 2, length - span))
        for at, span, length in zip(place, size, shape, strict=True)
    )
    own = slide.read_region(slide.planes[slide.zero], 0, y, x, *size)
    return register(own, other.read_region(plane, 0, y, x, *size))


def identity(path: Path) -> str:
    """Return what changes when a slide's files do: path, sizes and times of change."""
    folder = path if path.is_dir() else path.with_suffix("")  # MIRAX keeps its data beside it
    files = [path] if path.is_file() else []
    if folder.is_dir():
        files += sorted(file for file in folder.rglob("*") if file.is_file())
    facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return json.dumps([str(path.resolve()), facts])
