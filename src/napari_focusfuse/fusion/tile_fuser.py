"""Every channel of a plan's tiles: the fused picture and the maps made with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_focusfuse.slide import FocalPlane, UInt8Image
from napari_focusfuse.tiles import Tile, reflect

from .memory import TileComputer
from .method import Float32Image, FusionError, FusionMethod, MapInfo, PixelMapper
from .plan import FusionPlan


class TileFuser:
    """Turns the pixels of tiles into red, green, blue and the maps.

    Parameters
    ----------
    plan, method
        What to fuse, and the loaded method that the plan was made for.
    mappers
        What makes further maps in the same pass.

    Raises
    ------
    FusionError
        If two of them make maps of one name.
    """

    def __init__(
        self, plan: FusionPlan, method: FusionMethod, mappers: Sequence[PixelMapper] = ()
    ) -> None:
        self.maps: tuple[MapInfo, ...] = _all_maps(method, mappers)
        """What the channels after red, green and blue mean."""
        planes = plan.planes
        if any(mapper.takes == "centre" for mapper in mappers) and plan.centre not in planes:
            planes = (*planes, plan.centre)
        self.planes: tuple[FocalPlane, ...] = planes
        """The planes that are needed of each tile, in this order."""
        fused = slice(0, len(plan.planes))
        at = planes.index(plan.centre) if plan.centre in planes else 0
        taken = {"fused": fused, "centre": slice(at, at + 1)}
        self._computers = [(fused, _computer(plan, method))]
        self._computers += [(taken[mapper.takes], _computer(plan, mapper)) for mapper in mappers]

    def __call__(self, stacks: UInt8Image) -> Float32Image:
        """Compute tiles.

        Parameters
        ----------
        stacks
            (B, Z, tile, tile, 3) uint8; Z as in :attr:`planes`.

        Returns
        -------
        (B, tile, tile, 3 + maps) float32 array in [0, 1]

        Raises
        ------
        FusionError
            If memory runs out, or a result is not a number.
        """
        values = np.divide(stacks, 255, dtype=np.float32)
        parts = [compute(values[:, planes]) for planes, compute in self._computers]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def read_tile(plan: FusionPlan, planes: Sequence[FocalPlane], tile: Tile) -> UInt8Image:
    """Read a tile of several planes, mirrored at the slide's edges.

    Returns
    -------
    (len(planes), tile, tile, 3) uint8 array
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
    return stack


def _computer(plan: FusionPlan, maker: FusionMethod | PixelMapper) -> TileComputer:
    info = maker.info
    return TileComputer(maker, plan.grid, title=info.title, device=maker.device, halo=info.halo)


def _all_maps(method: FusionMethod, mappers: Sequence[PixelMapper]) -> tuple[MapInfo, ...]:
    maps = (*method.maps, *(info for mapper in mappers for info in mapper.maps))
    names = [info.name for info in maps]
    if len(set(names)) < len(names):
        raise FusionError(f"Two of the maps {', '.join(names)} have one name; ask for each once.")
    return maps
