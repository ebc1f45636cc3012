"""A coarse picture of the blocks that are finished, over the slide they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_focusfuse.layer_metadata import fused_layer, overlay_axes
from napari_focusfuse.slide import Region
from napari_focusfuse.whole_slide.job import SlideJob
from napari_focusfuse.whole_slide.preview import FinishedPixels

from ._view import add_layer, layer_axes, level_factors
from .slide_source import ours

KIND = "finished blocks"
"""What the layer's metadata call it: no result yet, only a picture of one."""

LONGEST = 2048
"""Most pixels of the picture's longer side."""


class FinishedLayer:
    """Grows as blocks are finished; all methods belong to the window's thread.

    Parameters
    ----------
    viewer, slide_layer
        Where it goes, and what it lies over.
    job
        What is being fused.
    """

    def __init__(self, viewer: Any, slide_layer: Any, job: SlideJob) -> None:
        self._viewer, self._slide_layer, self._job = viewer, slide_layer, job
        self._downsample = 1
        self._rgba = np.zeros((0, 0, 4), np.uint8)
        self.layer: Any = None
        """None before the first block, and once the user removed it."""

    def add(self, blocks: Sequence[FinishedPixels]) -> None:
        """Draw finished blocks."""
        if self.layer is None:
            self._make(blocks[0].downsample)
        for block in blocks:
            every = max(self._downsample // block.downsample, 1)
            pixels = block.pixels[::every, ::every]
            y = (block.region.y - self._job.region.y) // self._downsample
            x = (block.region.x - self._job.region.x) // self._downsample
            place = self._rgba[y : y + pixels.shape[0], x : x + pixels.shape[1]]
            place[..., :3] = pixels[: place.shape[0], : place.shape[1]]
            place[..., 3] = 255
        self.layer.refresh(extent=False, thumbnail=False)

    def _make(self, least: int) -> None:
        whole = self._job.region
        self._downsample = least
        while max(whole.height, whole.width) > LONGEST * self._downsample:
            self._downsample *= 2
        down = self._downsample
        height, width = -(-whole.height // down), -(-whole.width // down)
        coarse = Region(whole.y // down, whole.x // down, height, width)
        factors = level_factors(self._slide_layer)[self._job.level]
        axes = overlay_axes(
            layer_axes(self._slide_layer),
            tuple(factor * down for factor in factors),
            (coarse.y, coarse.x),
        )
        data = fused_layer(
            coarse,
            axes,
            name=f"finished blocks · {self._slide_layer.name}",
            provenance={},
            mpp=None,
            complete=False,
            kind=KIND,
            slide_id=ours(self._slide_layer).get("slide_id"),
        )
        self._rgba = data[0]
        self.layer = add_layer(self._viewer, data, self._slide_layer)
