"""Fuse a region of a slide, tile by tile, so that no pixel depends on what else was asked for.

Tiles lie on a grid fixed to the slide.  Sums are kept in integers, so neither the order of the
tiles nor the size of a batch can change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_focusfuse.slide import FocalPlane, Region, Slide, UInt8Image
from napari_focusfuse.tiles import Tile, reflect

from .catalogue import load_blur_detector, load_method, method_info
from .memory import TileComputer
from .method import Float32Image, FusionMethod
from .plan import (
    DEFAULT,
    PAPER,
    FusionPlan,
    Preset,
    level_mpp,
    level_shape,
    nearest_level,
    plan_fusion,
)
from .planes import Wanted, choose_planes
from .provenance import fusion_provenance

if TYPE_CHECKING:
    from .neural import BlurDetector

__all__ = [
    "DEFAULT",
    "PAPER",
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

SCALE = 65535
"""Steps of 1 in which sums are kept; 257 to each step of uint8."""


@dataclass(frozen=True)
class TileDone:
    """A finished tile."""

    done: int
    total: int
    region: Region
    """The tile's active part inside the plan's region, in pixels of the level."""
    image: UInt8Image
    """(Y, X, 3) uint8: what the fused picture holds there by now."""
    mask: UInt8Image | None
    """(Y, X) uint8: 255 x the probability that the centre plane is blurred there."""


@dataclass(frozen=True)
class Fusion:
    """A fused region."""

    image: UInt8Image
    """(Y, X, 3) uint8."""
    mask: UInt8Image | None
    """(Y, X) uint8: 255 x the probability that the centre plane is blurred there."""
    plan: FusionPlan
    provenance: dict[str, Any]
    """Where the picture comes from, as plain JSON."""


def run_fusion(
    plan: FusionPlan, method: FusionMethod, blur: BlurDetector | None = None, batch: int = 1
) -> Generator[TileDone, None, Fusion]:
    """Fuse tile by tile, in the thread that iterates; the generator can be closed at any time.

    Parameters
    ----------
    plan, method
        What to fuse, and the loaded method that the plan was made for.
    blur
        Makes the mask in the same pass; None: no mask.
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
        If memory runs out, or the method's result is not a number.
    """
    fuser = _fuser(plan, method)
    detector = None if blur is None else _detector(plan, blur)
    canvas = _Canvas(plan, channels=3 if detector is None else 4)
    done = 0
    for first in range(0, len(plan.tiles), batch):
        tiles = plan.tiles[first : first + batch]
        for tile, pixels in zip(tiles, _compute(plan, tiles, fuser, detector), strict=True):
            region = canvas.add(tile, pixels)
            done += 1
            image, mask = canvas.picture(region)
            yield TileDone(done, len(plan.tiles), region, image, mask)
    image, mask = canvas.picture(plan.region)
    return Fusion(image, mask, plan, fusion_provenance(plan, method, mask is not None))


def fuse(
    slide: Slide,
    region: Region | None = None,
    planes: Wanted = "three",
    method: str = "swift",
    level: int = 0,
    device: str = "auto",
    preset: Preset = DEFAULT,
    mask: bool = False,
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
        Whether to compute the blur mask of layer 0 too.

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
    detector = load_blur_detector(device) if mask else None
    return finish(run_fusion(plan, load_method(info, device), detector))


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


def _fuser(plan: FusionPlan, method: FusionMethod) -> TileComputer:
    info = method.info
    return TileComputer(method, plan.grid, title=info.title, device=method.device, halo=info.halo)


def _detector(plan: FusionPlan, blur: BlurDetector) -> TileComputer:
    info = blur.info
    return TileComputer(
        lambda stacks: blur(stacks[:, 0]),
        plan.grid,
        title=info.title,
        device=blur.device,
        halo=info.halo,
    )


def _compute(
    plan: FusionPlan, tiles: Sequence[Tile], fuser: TileComputer, detector: TileComputer | None
) -> Float32Image:
    """Return the (B, tile, tile, C) values of tiles: red, green, blue and, if wanted, P(blur)."""
    planes = plan.planes
    if detector is not None and plan.centre not in planes:
        planes = (*planes, plan.centre)
    stacks = np.stack([read_tile(plan, planes, tile) for tile in tiles])
    fused = fuser(stacks[:, : len(plan.planes)])
    if detector is None:
        return fused
    centre = planes.index(plan.centre)
    blurred = detector(stacks[:, centre : centre + 1])
    return np.concatenate([fused, blurred[..., None]], axis=-1)


def read_tile(plan: FusionPlan, planes: Sequence[FocalPlane], tile: Tile) -> Float32Image:
    """Read a tile of several planes, mirrored at the slide's edges.

    Returns
    -------
    (len(planes), tile, tile, 3) float32 array in [0, 1]
    """
    size = plan.grid.tile
    y, x = plan.grid.origin(tile)
    height, width = plan.slide.levels[plan.level].shape
    rows, columns = reflect(y, size, height), reflect(x, size, width)
    top, left = int(rows.min()), int(columns.min())
    box = top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
    stack = plan.slide.read_stack(planes, plan.level, *box)
    if stack.shape[1:3] != (size, size):
        stack = stack[:, rows - top][:, :, columns - left]
    return np.divide(stack, 255, dtype=np.float32)


class _Canvas:
    """Weighted integer sums over the plan's region, and the picture they amount to so far."""

    def __init__(self, plan: FusionPlan, channels: int) -> None:
        self._grid, self._region = plan.grid, plan.region
        shape = plan.region.height, plan.region.width
        self._sums = np.zeros((*shape, channels), np.uint32)
        self._weights = np.zeros((*shape, 1), np.uint32)
        self._picture = np.zeros((*shape, channels), np.uint8)
        weights = plan.grid.weights()
        self._tile_weights = np.multiply.outer(weights, weights)[..., None]

    def add(self, tile: Tile, values: Float32Image) -> Region:
        """Add a tile's (tile, tile, channels) values; return what part of the region it touched."""
        y, x = self._grid.active_origin(tile)
        touched = _overlap(Region(y, x, self._grid.active, self._grid.active), self._region)
        margin = self._grid.margin
        in_tile = _slices(touched, y - margin, x - margin)
        steps = np.rint(values[in_tile] * np.float32(SCALE)).astype(np.uint32)
        weights = self._tile_weights[_slices(touched, y, x)]
        place = _slices(touched, self._region.y, self._region.x)
        self._sums[place] += steps * weights
        self._weights[place] += weights
        # Division in integers, rounded to nearest.
        divisor = self._weights[place] * (SCALE // 255)
        self._picture[place] = (self._sums[place] + divisor // 2) // divisor
        return touched

    def picture(self, region: Region) -> tuple[UInt8Image, UInt8Image | None]:
        """Return a copy of the (Y, X, 3) image and of the (Y, X) mask, None without one."""
        part = self._picture[_slices(region, self._region.y, self._region.x)]
        mask = part[..., 3].copy() if part.shape[-1] > 3 else None
        return part[..., :3].copy(), mask


def _overlap(first: Region, second: Region) -> Region:
    y, x = max(first.y, second.y), max(first.x, second.x)
    stop_y, stop_x = min(first.stop_y, second.stop_y), min(first.stop_x, second.stop_x)
    return Region(y, x, stop_y - y, stop_x - x)


def _slices(region: Region, y: int, x: int) -> tuple[slice, slice]:
    """Return where a region lies in an array whose first pixel is (y, x)."""
    rows = slice(region.y - y, region.stop_y - y)
    return rows, slice(region.x - x, region.stop_x - x)
