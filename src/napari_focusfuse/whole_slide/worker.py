"""What a process needs to fuse blocks of one job: slide, models and outputs, opened once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from napari_focusfuse.fusion.canvas import Canvas
from napari_focusfuse.fusion.maps import load_fusion
from napari_focusfuse.fusion.method import Float32Image, FusionError, MapInfo
from napari_focusfuse.fusion.plan import FusionPlan
from napari_focusfuse.fusion.provenance import fusion_provenance
from napari_focusfuse.fusion.tile_fuser import TileFuser, read_tile
from napari_focusfuse.slide import SlideError, UInt8Image
from napari_focusfuse.tiles import Tile
from napari_focusfuse.writer import PyramidSpec

from .background import Colour
from .blocks import Block, BlockGrid
from .job import IMAGE, SlideJob, plan_job
from .shares import Output, Pixels, make_parts

RETRY_SECONDS = (0.2, 1.0, 3.0)
"""Pauses before a tile that could not be read is read again, with the slide opened anew."""


class DeviceLostError(FusionError):
    """The device failed for good: no further block can be fused in this process."""


@dataclass(frozen=True)
class Task:
    """One block to be fused; plain data for another process."""

    block: Block
    empty: Mapping[Tile, Colour] = field(default_factory=dict)
    """Those of its tiles that are not fused, and their colours."""


@dataclass(frozen=True)
class FinishedBlock:
    """What is kept of a block."""

    block: Block
    parts: Sequence[bytes]
    """See :mod:`.shares`."""
    notes: Mapping[str, Any]
    """``tiles``: how many it took; ``empty``: how many of them were not fused."""


@dataclass(frozen=True)
class About:
    """What must be known of the work beside the job; plain data."""

    provenance: dict[str, Any]
    maps: tuple[MapInfo, ...]
    mpp: tuple[float, float] | None
    icc: bytes | None


class BlockWorker:
    """Fuses blocks.  Reading and encoding may be done by several threads at once.

    Raises
    ------
    FocusFuseError
        If the slide or a model cannot be opened, or makes no such map.
    """

    def __init__(self, job: SlideJob) -> None:
        self.job = job
        self._reopening, self._fusing = threading.Lock(), threading.Lock()
        self.plan: FusionPlan = plan_job(job, job.open())
        try:
            names = [name for name in job.outputs if name != IMAGE]
            method, mappers = load_fusion(self.plan, names, job.device, job.blur_model)
            self.fuser = TileFuser(self.plan, method, mappers)
            self.about = About(
                fusion_provenance(self.plan, method, mappers),
                self.fuser.maps,
                self.plan.mpp,
                self.plan.slide.icc_profile,
            )
            self.outputs = make_outputs(job, self.about)
        except BaseException:
            self.close()
            raise
        self.grid = BlockGrid(self.plan.region, job.block)

    def tiles(self, block: Block) -> tuple[Tile, ...]:
        """Return the tiles that carry weight in a block."""
        part = self.grid.region_of(block)
        return self.plan.grid.tiles_for(part.y, part.x, part.height, part.width)

    def read(self, tile: Tile) -> UInt8Image:
        """Return a tile's (planes, tile, tile, 3) pixels, after some patience if need be.

        Raises
        ------
        SlideError
            If it still cannot be read.
        """
        for pause in (*RETRY_SECONDS, None):
            plan = self.plan
            try:
                return read_tile(plan, self.fuser.planes, tile)
            except SlideError:
                if pause is None:
                    raise
                time.sleep(pause)
                self._reopen(plan)
        raise AssertionError  # the last round returns or raises

    def fuse(self, stack: UInt8Image) -> Float32Image:
        """Return the (tile, tile, 3 + maps) values of a tile; one thread at a time.

        Raises
        ------
        DeviceLostError
            If the GPU failed, after which this process cannot use it any more.
        """
        try:
            with self._fusing:
                values: Float32Image = self.fuser(stack[None])[0]
        except RuntimeError as error:
            if "CUDA error" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise DeviceLostError(
                f"The GPU failed ({reason}); what is done is kept: run again, or on the CPU."
            ) from None
        return values

    def values(self, colour: Colour) -> Float32Image:
        """Return the values of a tile of one colour whose maps are all 0."""
        side = self.plan.grid.tile
        one = np.zeros(3 + len(self.fuser.maps), np.float32)
        one[:3] = np.divide(colour, 255, dtype=np.float32)
        values: Float32Image = np.full((side, side, len(one)), one, np.float32)
        return values

    def canvas(self, block: Block) -> Canvas:
        """Return an empty canvas for a block."""
        return Canvas(self.plan.grid, self.grid.region_of(block), self.fuser.maps)

    def encode(self, block: Block, canvas: Canvas) -> list[bytes]:
        """Return what a block whose tiles are all there gives to the outputs."""
        image, maps = canvas.picture(self.grid.region_of(block))
        pixels: dict[str, Pixels] = {IMAGE: image, **maps}
        return [
            part
            for output in self.outputs
            for part in make_parts(output, self.grid, block, pixels[output.name])
        ]

    def __call__(self, task: Task) -> FinishedBlock:
        """Fuse one block in this thread."""
        canvas, tiles = self.canvas(task.block), self.tiles(task.block)
        for tile in tiles:
            colour = task.empty.get(tile)
            values = self.fuse(self.read(tile)) if colour is None else self.values(colour)
            canvas.add(tile, values)
        parts = self.encode(task.block, canvas)
        return FinishedBlock(task.block, parts, notes_of(tiles, task))

    def close(self) -> None:
        """Release the slide."""
        self.plan.slide.close()

    def _reopen(self, plan: FusionPlan) -> None:
        """Open the slide anew, unless another thread has done so since ``plan``.

        After one error some libraries refuse every later read of the same handle.
        """
        with self._reopening:
            if self.plan is not plan:
                return
            slide = self.job.open()
            self.plan = replace(plan, slide=slide)
            plan.slide.close()


def notes_of(tiles: Sequence[Tile], task: Task) -> dict[str, int]:
    """Return what is noted of a block."""
    return {"tiles": len(tiles), "empty": sum(tile in task.empty for tile in tiles)}


def make_outputs(job: SlideJob, about: About) -> tuple[Output, ...]:
    """Return the files of a job.

    Raises
    ------
    FusionError
        If nothing makes one of the maps.
    """
    maps = {info.name: info for info in about.maps}
    return tuple(Output(name, path, _spec(job, name, maps)) for name, path in job.outputs.items())


def _spec(job: SlideJob, name: str, maps: Mapping[str, MapInfo]) -> PyramidSpec:
    height, width = job.region.height, job.region.width
    if name == IMAGE:
        return PyramidSpec(height, width, 3, compression=job.compression)
    if name not in maps:
        known = ", ".join(maps) or "none"
        raise FusionError(f"Nothing makes the map {name!r}; the maps of this method are {known}.")
    lossless = "deflate" if job.compression == "jpeg" else job.compression
    dtype: Literal["uint8", "float32"] = "uint8" if maps[name].unit is None else "float32"
    return PyramidSpec(height, width, 1, dtype, compression=lossless)
