"""A slide whose focal planes are moved onto the middle one as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np

from .plane_registration import MAX_PIXELS, read_grey, reduction, register_planes, stayed
from .plane_transform import Float32Image, PlaneTransform, describe, resample
from .slide import FocalPlane, Region, Slide, UInt8Image

_FOUND: WeakKeyDictionary[Slide, tuple[PlaneTransform, ...]] = WeakKeyDictionary()
"""How the planes of slides lie that are still open: the window asks at every fusion."""


def registered(slide: Slide) -> RegisteredSlide:
    """Register the focal planes of a slide; reads each once, at a level of about a megapixel.

    What is found is good to about a tenth of a pixel of that level, and kept while the slide is
    open.

    Raises
    ------
    RegistrationError
        If a plane lies too far from the middle one.
    """
    if slide not in _FOUND:
        _FOUND[slide] = _found(slide)
    return RegisteredSlide(slide, _FOUND[slide])


def _found(slide: Slide) -> tuple[PlaneTransform, ...]:
    """Return how each plane of a slide lies against the middle one, in pixels of level 0."""
    small = (n for n, level in enumerate(slide.levels) if level.width * level.height <= MAX_PIXELS)
    index = next(small, len(slide.levels) - 1)
    level = slide.levels[index]
    factor = reduction(level.shape)

    def read(plane: FocalPlane, region: Region) -> UInt8Image:
        y, x, height, width = region.y, region.x, region.height, region.width
        return slide.read_region(plane, index, y, x, height, width)

    greys = [read_grey(partial(read, plane), level.shape, factor) for plane in slide.planes]
    down_y, down_x = level.downsample
    return register_planes(
        np.stack(greys), slide.levels[0].shape, (down_y * factor, down_x * factor)
    )


class RegisteredSlide(Slide):
    """Another slide with its focal planes moved; levels and everything else stay.

    Parameters
    ----------
    slide
        The slide as stored; closing this object closes it.
    transforms
        One per focal plane, in pixels of level 0.
    """

    def __init__(self, slide: Slide, transforms: Sequence[PlaneTransform]) -> None:
        self.slide = slide
        """The slide as stored."""
        self.transforms = tuple(transforms)
        self.format = slide.format
        super().__init__(
            slide.path,
            planes=slide.planes,
            levels=slide.levels,
            zero=slide.zero,
            extended=slide.extended,
            mpp=slide.mpp,
            objective=slide.objective,
            background=slide.background,
            properties=slide.properties,
            warnings=[*slide.warnings, *stayed(self.transforms)],
            not_shown=slide.not_shown,
            icc_profile=slide.icc_profile,
        )

    @property
    def registration(self) -> Sequence[Mapping[str, object]]:
        """Scale and shift of each plane, as plain JSON."""
        return describe(self.transforms)

    @property
    def bounds(self) -> Region:
        """The scanned part of level 0."""
        return self.slide.bounds

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail of the file."""
        return self.slide.associated

    def stored(self, plane: FocalPlane, level: int) -> bool:
        """Tell whether the file itself holds this plane at this level, moved or not."""
        return self.slide.stored(plane, level)

    def structure(self) -> Mapping[str, object]:
        """Return how the file is built."""
        return self.slide.structure()

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return the tile of the file."""
        return self.slide.tile_hint(level)

    def close(self) -> None:
        """Close the slide as stored."""
        self.slide.close()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        def read(r: Region) -> UInt8Image:
            return self.slide.read_region(plane, level, r.y, r.x, r.height, r.width)

        def read_real(r: Region) -> Float32Image:
            return read(r).astype(np.float32)

        if plane.index < 0 or self.transforms[plane.index].is_identity:
            return read(region)
        at = self.levels[level]
        rows, columns = self.transforms[plane.index].positions(
            region, self.levels[0].shape, at.downsample
        )
        values = resample(read_real, at.shape, rows, columns)
        return np.rint(values).clip(0, 255).astype(np.uint8)
