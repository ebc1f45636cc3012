"""What is compared with what, resolved from layers and files by functions without a window.

A source says where a picture's pixels come from; :func:`read_picture` reads them, in a worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_focusfuse.comparison import Comparison, ComparisonError, Picture, compare
from napari_focusfuse.layer_metadata import Axes, ViewWindow
from napari_focusfuse.readers.single import read_single
from napari_focusfuse.slide import FocalPlane, Slide, UInt8Image

MOST_PIXELS = 1 << 24
"""Where neither picture has an extent of its own, the level is chosen to stay below this."""

_HAIR = 1e-3
"""Part of a pixel by which a border may miss a pixel's edge, through rounding, and not touch it."""


@dataclass(frozen=True)
class Box:
    """A rectangle in world units."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Frame:
    """How pixels lie in the world: what a :class:`~napari_focusfuse.comparison.Picture` says."""

    size: tuple[float, float]
    """(y, x) world units per pixel."""
    corner: tuple[float, float]
    """(y, x) of the outer corner of the first pixel."""

    def box(self, shape: Sequence[int]) -> Box:
        """Return what (height, width) pixels cover."""
        bottom = self.corner[0] + self.size[0] * shape[0]
        return Box(*self.corner, bottom, self.corner[1] + self.size[1] * shape[1])


def frame_of(axes: Axes) -> Frame:
    """Return the frame of a layer with these axes; the viewer places pixel centres."""
    (y, x), (top, left) = axes.scale[-2:], axes.translate[-2:]
    return Frame((y, x), (top - y / 2, left - x / 2))


@dataclass(frozen=True)
class ArraySource:
    """A flat image in memory."""

    name: str
    pixels: UInt8Image
    """(Y, X, 3) or (Y, X, 4) uint8."""
    frame: Frame


@dataclass(frozen=True)
class SlideSource:
    """A plane of a slide; what the other picture covers is read, at the level nearest to it."""

    name: str
    slide: Slide
    plane: FocalPlane
    frame: Frame
    """Of level 0."""


@dataclass(frozen=True)
class FileSource:
    """An image file, or a slide of one plane or with an extended focus."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name


Source = ArraySource | SlideSource | FileSource


@dataclass(frozen=True)
class CompareRequest:
    """The tab's fields and the view, as values."""

    image: Source
    reference: Source
    view: Box
    """What is in view, used where neither source has an extent of its own."""
    scale: float | None
    """Micrometres per world unit; None: the world is in pixels."""
    placed: bool
    """Whether both frames may be trusted to lie in one world."""
    shift: tuple[int, int] | None = None
    """By hand, in pixels of the coarser picture; None: by position or by correlation."""


@dataclass(frozen=True)
class Compared:
    """Scores, and where their difference belongs in the viewer."""

    comparison: Comparison
    axes: tuple[tuple[float, float], tuple[float, float]]
    """(y, x) scale and translate of the difference layer in world units."""


def run_comparison(request: CompareRequest) -> Compared:
    """Read both pictures and compare them; runs in a worker.

    Raises
    ------
    FocusFuseError
        In one sentence, if it cannot be done.
    """
    box, size = _interest(request)
    image = read_picture(request.image, box, size)
    reference = read_picture(request.reference, box, size)
    corner = image.origin or (0.0, 0.0)
    unit = image.mpp or (1.0, 1.0)
    image = _told(image, request, request.image)
    reference = _told(reference, request, request.reference)
    comparison = compare(image, reference, shift=request.shift)
    return Compared(comparison, _placement(comparison, image, corner, unit))


def _interest(request: CompareRequest) -> tuple[Box, tuple[float, float] | None]:
    """Return the part of the world to read, and the pixel size to read it at if one is given."""
    for source in (request.image, request.reference):
        if isinstance(source, ArraySource):
            return source.frame.box(source.pixels.shape), source.frame.size
    return request.view, None


def read_picture(source: Source, box: Box, size: tuple[float, float] | None) -> Picture:
    """Read a source; the picture's ``mpp`` and ``origin`` are in world units.

    Parameters
    ----------
    box, size
        What to read of a slide, and at which (y, x) world units per pixel; None: the finest level
        of at most :data:`MOST_PIXELS`.

    Raises
    ------
    FocusFuseError
        If it cannot be read, or is not complete.
    """
    if isinstance(source, ArraySource):
        pixels = np.asarray(source.pixels)
        if pixels.shape[-1] == 4 and pixels[..., 3].min() == 0:
            raise ComparisonError(
                f"{source.name} is not fused completely; fuse the view again and let it finish."
            )
        return Picture(
            np.ascontiguousarray(pixels[..., :3]),
            source.name,
            source.frame.size,
            source.frame.corner,
        )
    if isinstance(source, SlideSource):
        return _slide_picture(source, box, size)
    pixels, mpp = read_single(source.path)
    return Picture(pixels, source.name, mpp)


def _slide_picture(source: SlideSource, box: Box, size: tuple[float, float] | None) -> Picture:
    frame, slide = source.frame, source.slide
    window = ViewWindow(
        source.plane.index,
        (box.top - frame.corner[0]) / frame.size[0] + _HAIR,
        (box.left - frame.corner[1]) / frame.size[1] + _HAIR,
        (box.bottom - frame.corner[0]) / frame.size[0] - _HAIR,
        (box.right - frame.corner[1]) / frame.size[1] - _HAIR,
    )
    level = _level(slide, (window.bottom - window.top) * (window.right - window.left), frame, size)
    y, x = slide.levels[level].downsample
    region = window.at((y, x), slide.levels[level].shape)
    if not region.height or not region.width:
        raise ComparisonError(
            f"{source.name} shows nothing where the other picture lies; compare pictures of one "
            "place."
        )
    pixels = slide.read_region(source.plane, level, region.y, region.x, region.height, region.width)
    sizes = frame.size[0] * y, frame.size[1] * x
    corner = frame.corner[0] + region.y * sizes[0], frame.corner[1] + region.x * sizes[1]
    return Picture(pixels, source.name, sizes, corner, level)


def _level(slide: Slide, area: float, frame: Frame, size: tuple[float, float] | None) -> int:
    def mismatch(level: int) -> float:
        assert size is not None
        y, x = slide.levels[level].downsample
        return abs(math.log(frame.size[0] * y * frame.size[1] * x / (size[0] * size[1])))

    levels = range(len(slide.levels))
    if size is not None:
        return min(levels, key=mismatch)
    fitting = (n for n in levels if area / math.prod(slide.levels[n].downsample) <= MOST_PIXELS)
    return next(fitting, len(slide.levels) - 1)


def _told(picture: Picture, request: CompareRequest, source: Source) -> Picture:
    """Return the picture in micrometres, and without what is not known of it."""
    if isinstance(source, FileSource):
        known = request.scale is not None
        return Picture(picture.pixels, picture.name, picture.mpp if known else None)
    scale = request.scale
    if scale is None and not request.placed:
        return Picture(picture.pixels, picture.name, None, None, picture.level)
    mpp, origin = picture.mpp, picture.origin
    assert mpp is not None  # layers always lie somewhere
    assert origin is not None
    factor = 1.0 if scale is None else scale
    return Picture(
        picture.pixels,
        picture.name,
        (mpp[0] * factor, mpp[1] * factor),
        (origin[0] * factor, origin[1] * factor) if request.placed else None,
        picture.level,
    )


def _placement(
    result: Comparison, image: Picture, corner: tuple[float, float], unit: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the (y, x) scale and translate, in world units, of the compared pixels.

    The result lies in the image's own units: micrometres, or its pixels where those are unknown.
    """
    told, mpp = image.mpp or (1.0, 1.0), result.mpp or (1.0, 1.0)
    start = (0.0, 0.0) if image.origin is not None else corner
    factors = unit[0] / told[0], unit[1] / told[1]
    size = mpp[0] * factors[0], mpp[1] * factors[1]
    return size, (
        start[0] + result.origin[0] * factors[0] + size[0] / 2,
        start[1] + result.origin[1] * factors[1] + size[1] / 2,
    )
