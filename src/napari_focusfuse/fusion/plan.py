"""Plan a fusion: which tiles of which grid, from which planes; no torch, no pixel is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import MAX_REGION_PIXELS, FocalPlane, Region, RegionError, Slide
from napari_focusfuse.tiles import ALIGNMENT, Tile, TileGrid

from .catalogue import blur_detector_info
from .maps import DEPTH_INFO
from .method import MAX_MARGIN, MethodInfo
from .planes import scale_warning, step_warning


@dataclass(frozen=True)
class Preset:
    """How a slide is cut into tiles."""

    name: str
    tile: int | None
    """Side of a tile as it is read, in pixels; None: so large that margins cost little."""
    margin: int | None
    """Pixels at each side without weight; None: the reach of method and blur detector."""
    ramp: int
    """Pixels over which neighbours are blended."""


DEFAULT = Preset("default", tile=768, margin=None, ramp=8)
"""For the window: tiles small enough to see it grow, large enough for the reach of networks."""
PAPER = Preset("paper", tile=512, margin=0, ramp=128)
"""The paper's tiling: 512 px tiles, 128 px redundancy, distance weighting over all of it."""
SLIDE = Preset("slide", tile=None, margin=None, ramp=0)
"""For whole slides.  Exact methods need no ramp: neighbouring tiles agree to the last bit where
they meet.  Of the others each pixel comes from one tile, so that blocks of tiles need not be
computed twice where they meet."""
PRESETS = {preset.name: preset for preset in (DEFAULT, PAPER, SLIDE)}
_STEPS = (1024, 1536, 2048)
"""Distances of tiles in :data:`SLIDE`: multiples of the 512 px tiles of files.  More would need
more than 2 GB of memory."""
_MOST_READ = 1.2
"""How many pixels a tile of an exact method may read for each it gives, at most ..."""
_FEW_PLANES = 6
"""... if it takes no more planes than these; tiles of more would need more than 2 GB of memory."""
_COARSEST = 32
"""The coarsest alignment in pixels of a method that is anchored only."""


@dataclass(frozen=True)
class FusionPlan:
    """What will be fused and how; made without reading a pixel, by :func:`plan_fusion`."""

    slide: Slide
    info: MethodInfo
    planes: tuple[FocalPlane, ...]
    """In the method's input order."""
    centre: FocalPlane
    """The plane whose blur the mask shows."""
    level: int
    region: Region
    """In pixels of the level, inside it."""
    preset: Preset
    grid: TileGrid
    tiles: tuple[Tile, ...]
    """From the region's centre outward."""
    warnings: tuple[str, ...]
    """Sentences for the user."""

    @property
    def tiling(self) -> str:
        """``"exact"`` if the margin covers the method's reach, else ``"anchored only"``."""
        return "exact" if self.grid.margin >= self.info.halo else "anchored only"

    @property
    def mpp(self) -> tuple[float, float] | None:
        """(y, x) micrometres per pixel of the result, or None if unknown."""
        return level_mpp(self.slide, self.level)

    @property
    def sampling(self) -> Sampling:
        """How the planes and the pixels of the result lie."""
        return Sampling.of([plane.z_um for plane in self.planes], self.mpp)


def level_mpp(slide: Slide, level: int) -> tuple[float, float] | None:
    """Return the (y, x) micrometres per pixel of a level, or None if unknown."""
    if slide.mpp is None:
        return None
    downsample = slide.levels[level].downsample
    return slide.mpp[0] * downsample[0], slide.mpp[1] * downsample[1]


def nearest_level(slide: Slide, info: MethodInfo) -> int:
    """Return the level whose pixels are nearest in size to the method's; 0 if either is unknown."""
    made_for = info.mpp
    if made_for is None or slide.mpp is None:
        return 0

    def mismatch(level: int) -> float:
        mpp = level_mpp(slide, level) or (made_for, made_for)
        return abs(math.log(math.sqrt(mpp[0] * mpp[1]) / made_for))

    return min(range(len(slide.levels)), key=mismatch)


def level_shape(slide: Slide, level: int) -> tuple[int, int]:
    """Return the (height, width) of a level in pixels.

    Raises
    ------
    RegionError
        If the slide has no such level.
    """
    if not 0 <= level < len(slide.levels):
        raise RegionError(
            f"{slide.path.name} has levels 0 to {len(slide.levels) - 1}, not {level}."
        )
    return slide.levels[level].shape


def plan_fusion(
    slide: Slide,
    info: MethodInfo,
    planes: Sequence[FocalPlane],
    level: int,
    region: Region,
    preset: Preset = DEFAULT,
    *,
    centre: FocalPlane | None = None,
    max_pixels: int | None = MAX_REGION_PIXELS,
) -> FusionPlan:
    """Plan a fusion.  Imports no torch and reads no pixel, so a window may call it at any time.

    Parameters
    ----------
    slide, info, planes
        What is fused by what; the planes as :func:`choose_planes` returns them.
    level, region
        Rectangle in pixels of ``level``; what lies outside the level is cut off.
    preset
        How the slide is cut into tiles.
    centre
        The plane whose blur the mask shows; None: the slide's layer 0 if all planes are fused, else
        the middle one.
    max_pixels
        Largest region; None where the result is not kept in memory.

    Raises
    ------
    RegionError
        If the level does not exist, the region lies outside the slide, or is too large for memory.
    """
    inside = _inside(slide, level, region, max_pixels)
    warnings = [
        step_warning(slide, info, planes),
        scale_warning(info, level_mpp(slide, level)),
        None if inside == region else "the region was cut off at the slide's edge",
    ]
    grid = tile_grid(info, preset, len(planes))
    if centre is None:
        whole = tuple(planes) == slide.planes
        centre = slide.planes[slide.zero] if whole else planes[len(planes) // 2]
    return FusionPlan(
        slide=slide,
        info=info,
        planes=tuple(planes),
        centre=centre,
        level=level,
        region=inside,
        preset=preset,
        grid=grid,
        tiles=grid.tiles_for(inside.y, inside.x, inside.height, inside.width),
        warnings=tuple(warning for warning in warnings if warning is not None),
    )


def _inside(slide: Slide, level: int, region: Region, max_pixels: int | None) -> Region:
    height, width = level_shape(slide, level)
    inside = region.clipped(height, width)
    if not inside.height or not inside.width:
        raise RegionError(
            f"The region at y {region.y}, x {region.x} of {region.height} x {region.width} pixels "
            f"lies outside the slide, which has {height} x {width}; choose one inside."
        )
    if max_pixels is not None and inside.height * inside.width > max_pixels:
        raise RegionError(
            f"A region of {inside.height} x {inside.width} pixels is too large to fuse in memory; "
            f"choose at most {max_pixels >> 20} megapixels, or a coarser level."
        )
    return inside


def tile_grid(info: MethodInfo, preset: Preset, planes: int = 1) -> TileGrid:
    """Lay out the tiles; what makes maps counts whether or not a map is wanted.

    Else asking for a map would move the grid, and with it the last bit of the picture.
    """
    detector = blur_detector_info()
    halo, alignment = max(info.halo, DEPTH_INFO.halo), math.lcm(ALIGNMENT, info.multiple_of)
    if detector is not None:
        halo = max(halo, detector.halo)
        alignment = math.lcm(alignment, detector.multiple_of)
    side = alignment
    if not info.exact:
        # Its tiles disagree a little wherever they lie, and a margin of its coarsest pixel, up to
        # 256 px, would leave no room in a tile.
        alignment = math.gcd(alignment, _COARSEST)

    def aligned(size: int, to: int = alignment) -> int:
        return -(-size // to) * to

    margin = min(aligned(halo), MAX_MARGIN) if preset.margin is None else aligned(preset.margin)
    ramp = aligned(preset.ramp)
    tile = preset.tile
    if tile is None:
        few = info.exact and planes <= _FEW_PLANES
        tile = (_step(margin) if few else _STEPS[0]) + 2 * margin + ramp
    return TileGrid(aligned(tile, side), margin, ramp, alignment)


def _step(margin: int) -> int:
    """Return the smallest distance of tiles at which margins cost little."""
    cheap = (step for step in _STEPS if (1 + 2 * margin / step) ** 2 <= _MOST_READ)
    return next(cheap, _STEPS[-1])
