"""Fuse a region of a slide, tile by tile, so that no pixel depends on what else was asked for.

Tiles lie on a grid fixed to the slide.  Sums are kept in integers, so neither the order of the
tiles nor the size of a batch can change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_focusfuse.slide import Region, Slide, UInt8Image

from .canvas import Canvas, Maps
from .catalogue import blur_detector_info, method_info
from .maps import load_fusion
from .method import MASK, FusionMethod, PixelMapper
from .plan import (
    DEFAULT,
    PAPER,
    SLIDE,
    FusionPlan,
    Preset,
    level_mpp,
    level_shape,
    nearest_level,
    plan_fusion,
)
from .planes import Wanted, choose_planes
from .provenance import fusion_provenance
from .tile_fuser import TileFuser, read_tile

__all__ = [
    "DEFAULT",
    "PAPER",
    "SLIDE",
    "Fusion",
    "FusionPlan",
    "Preset",
    "TileDone",
    "finish",
    "fuse",
    "fusion_provenance",
    "level_mpp",
    "nearest_level",
    "plan_fusion",
    "run_fusion",
]


@dataclass(frozen=True)
class TileDone:
    """A finished tile."""

    done: int
    total: int
    region: Region
    """The tile's active part inside the plan's region, in pixels of the level."""
    image: UInt8Image
    """(Y, X, 3) uint8: what the fused picture holds there by now."""
    maps: Maps
    """Name -> (Y, X) map of the same place: uint8, or float32 in the unit if the map has one."""

    @property
    def mask(self) -> UInt8Image | None:
        """(Y, X) uint8: 255 x the probability that the centre plane is blurred there, or None."""
        return self.maps.get("mask")


@dataclass(frozen=True)
class Fusion:
    """A fused region."""

    image: UInt8Image
    """(Y, X, 3) uint8."""
    maps: Maps
    """Name -> (Y, X) map: uint8 (255 for 1), or float32 in the unit if the map has one."""
    plan: FusionPlan
    provenance: dict[str, Any]
    """Where the picture comes from, as plain JSON."""

    @property
    def mask(self) -> UInt8Image | None:
        """(Y, X) uint8: 255 x the probability that the centre plane is blurred there, or None."""
        return self.maps.get("mask")


def run_fusion(
    plan: FusionPlan, method: FusionMethod, mappers: Sequence[PixelMapper] = (), batch: int = 1
) -> Generator[TileDone, None, Fusion]:
    """Fuse tile by tile, in the thread that iterates; the generator can be closed at any time.

    Parameters
    ----------
    plan, method
        What to fuse, and the loaded method that the plan was made for.
    mappers
        What makes maps in the same pass, such as the blur detector; the picture stays the same.
    batch
        Tiles per call of the method; changes the speed only.

    Yields
    ------
    One :class:`TileDone` per tile; the generator's return value is the :class:`Fusion`.

    Raises
    ------
    SlideError
        If the slide cannot be read there.
    FusionError
        If memory runs out, a result is not a number, or two maps have one name.
    """
    fuser = TileFuser(plan, method, mappers)
    canvas = Canvas(plan.grid, plan.region, fuser.maps)
    done = 0
    for first in range(0, len(plan.tiles), batch):
        tiles = plan.tiles[first : first + batch]
        stacks = np.stack([read_tile(plan, fuser.planes, tile) for tile in tiles])
        for tile, values in zip(tiles, fuser(stacks), strict=True):
            region = canvas.add(tile, values)
            done += 1
            yield TileDone(done, len(plan.tiles), region, *canvas.picture(region))
    image, maps = canvas.picture(plan.region)
    return Fusion(image, maps, plan, fusion_provenance(plan, method, mappers))


def fuse(
    slide: Slide,
    region: Region | None = None,
    planes: Wanted = "three",
    method: str = "swift",
    level: int = 0,
    device: str = "auto",
    preset: Preset = DEFAULT,
    mask: bool = False,
    maps: Collection[str] = (),
) -> Fusion:
    """Fuse a region of a slide in one call.

    Parameters
    ----------
    slide
        An open slide, see :func:`napari_focusfuse.open_slide`.
    region
        Rectangle in pixels of ``level``; None: all of it.
    planes
        ``"one"``, ``"three"``, ``"all"``, or offsets from layer 0 such as ``(-1, 0, 1)``.
    method
        A method's name, a family (``"swift"``), or the path of a model file.
    level
        Level of the slide's pyramid, 0 being the finest.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    preset
        How the slide is cut into tiles.
    mask
        Whether to compute the blur mask of layer 0 too, if a blur model is installed.
    maps
        Names of further maps, see :func:`available_maps`, such as ``("depth", "confidence")``.

    Raises
    ------
    FocusFuseError
        If the slide has no such planes or region, the method is unknown, or the fusion fails.
    """
    info = method_info(method, _count(slide, planes))
    centre = slide.planes[slide.zero]
    chosen = choose_planes(slide, info, planes)
    whole = Region(0, 0, *level_shape(slide, level))
    plan = plan_fusion(slide, info, chosen, level, region or whole, preset, centre=centre)
    wanted = set(maps)
    if mask and blur_detector_info() is not None:
        wanted.add(MASK.name)
    return finish(run_fusion(plan, *load_fusion(plan, wanted, device)))


def finish(steps: Generator[TileDone, None, Fusion]) -> Fusion:
    """Run a fusion to its end and return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def _count(slide: Slide, planes: Wanted) -> int:
    if isinstance(planes, tuple):
        return len(planes)
    return {"one": 1, "three": 3}.get(planes, len(slide.planes))
