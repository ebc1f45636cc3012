"""A slide drawn from a formula: no file, any size, every read noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_focusfuse.slide import FocalPlane, Level, Region, Slide, UInt8Image


class Drawn(Slide):
    """Pixels that tell their own plane, level and place; every read is noted."""

    format = "drawn"

    def __init__(
        self,
        height: int = 1300,
        width: int = 1100,
        planes: int = 3,
        *,
        z_um: tuple[float, ...] | None = None,
        mpp: tuple[float, float] | None = (0.25, 0.5),
        extended: bool = False,
    ) -> None:
        heights = z_um or (None,) * planes
        self.reads: list[tuple[int, int, Region]] = []
        levels = []
        scale = 1
        while True:
            levels.append(Level(width // scale, height // scale, (float(scale), float(scale))))
            if max(width, height) // scale <= 512:
                break
            scale *= 2
        super().__init__(
            Path("drawn.ome.tif"),
            planes=[FocalPlane(i, f"layer {i}", z) for i, z in enumerate(heights)],
            levels=levels,
            extended=FocalPlane(-1, "extended") if extended else None,
            mpp=mpp,
        )

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        self.reads.append((plane.index, level, region))
        return drawn(plane.index, level, region)


def drawn(plane: int, level: int, region: Region) -> UInt8Image:
    y = np.arange(region.y, region.stop_y)[:, None]
    x = np.arange(region.x, region.stop_x)[None, :]
    image = np.empty((region.height, region.width, 3), np.uint8)
    image[..., 0] = (y * 7 + x) % 251
    image[..., 1] = (y + x * 3) % 241
    image[..., 2] = plane * 16 + level
    return image
