"""Whatever OpenSlide reads: one focal plane, with label and macro."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from PIL import ImageCms

from napari_focusfuse.slide import FocalPlane, Level, Region, Slide, SlideError, UInt8Image

from .alpha import over
from .associated import Pictures
from .faults import damaged, told
from .probe import probe
from .tiff_header import check_tiff, is_tiff
from .unchanged import Unchanged

_GENERIC = "generic-tiff"
_MAX_PICTURE_PIXELS = 1 << 26
_WHITE = (255, 255, 255)


def vendor(path: Path) -> str | None:
    """Return OpenSlide's name for a scanner's format, or None if it is not one.

    A plain tiled TIFF is no scanner's format: our own reader knows more about it.
    """
    _check(path)
    finding = probe(path, "openslide")
    name = finding.format if finding else openslide.OpenSlide.detect_format(path)
    return None if name == _GENERIC else name


def open_openslide(path: Path, zero: int | None = None) -> OpenSlideSlide:
    """Open a slide through OpenSlide.

    Raises
    ------
    SlideError
        If OpenSlide cannot read it.
    """
    with told(path):
        _check(path)
        probe(path, "openslide")
        handle = openslide.OpenSlide(path)
        try:
            return OpenSlideSlide(path, handle, zero)
        except BaseException:
            handle.close()
            raise


def _check(path: Path) -> None:
    """Check a TIFF first: OpenSlide ends the process when a claimed size cannot be allocated."""
    with path.open("rb") as file:
        start = file.read(4)
    if is_tiff(start):
        check_tiff(path)


class OpenSlideSlide(Slide):
    """A slide of one focal plane.

    Parameters
    ----------
    path
        Where the slide lies.
    handle
        The open slide; this object closes it.
    zero
        Index of the plane that counts as layer 0; there is only 0.
    """

    format = "openslide"

    def __init__(self, path: Path, handle: openslide.OpenSlide, zero: int | None = None) -> None:
        self._handle = handle
        self._unchanged = Unchanged(path)
        self._dead: list[openslide.OpenSlide] = []
        self._closed = False
        self._reopening = threading.Lock()
        properties = dict(handle.properties)
        shapes = [(height, width) for width, height in handle.level_dimensions]
        super().__init__(
            path,
            planes=[FocalPlane(0, "Plane 1")],
            levels=[Level.under(shapes[0], shape) for shape in shapes],
            zero=zero,
            mpp=_mpp(properties),
            objective=_positive(properties.get("openslide.objective-power")),
            background=_background(properties),
            properties=properties,
            not_shown=_unseen_focus_layers(properties),
            icc_profile=_icc_profile(handle),
        )
        names = ("x", "y", "width", "height")
        found = [properties.get(f"openslide.bounds-{name}", "") for name in names]
        self._bounds = super().bounds
        if all(value.isdigit() for value in found):
            x, y, width, height = (int(value) for value in found)
            self._bounds = Region(y, x, height, width).clipped(*shapes[0])

    @property
    def bounds(self) -> Region:
        """The scanned part of level 0."""
        return self._bounds

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail, decoded on access."""
        return Pictures(self._handle.associated_images, self._picture)

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return the tile of the file where OpenSlide tells it."""
        sides = [
            self.properties.get(f"openslide.level[{level}].tile-{side}", "")
            for side in ("height", "width")
        ]
        if not all(side.isdigit() and int(side) for side in sides):
            return super().tile_hint(level)
        height, width = (int(side) * -(-512 // int(side)) for side in sides)
        return min(height, 2048), min(width, 2048)

    def close(self) -> None:
        """Close the slide."""
        self._closed = True
        for handle in (self._handle, *self._dead):
            handle.close()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        with told(self.path):
            if self._closed:
                raise SlideError(f"{self.path.name} is closed; open it again.")
            self._unchanged.check()
            handle = self._handle
            try:
                return self._pixels(handle, level, region)
            except openslide.OpenSlideError:
                # After one error a handle answers nothing but that error.
                return self._pixels(self._reopened(handle), level, region)

    def _pixels(self, handle: openslide.OpenSlide, level: int, region: Region) -> UInt8Image:
        # Places are asked for in level-0 pixels, and divided by OpenSlide's own downsample.
        downsample = handle.level_downsamples[level]
        place = (round(region.x * downsample), round(region.y * downsample))
        image = handle.read_region(place, level, (region.width, region.height))
        return over(np.asarray(image), self.background)

    def _reopened(self, failed: openslide.OpenSlide) -> openslide.OpenSlide:
        with self._reopening:
            if self._handle is failed:
                self._handle = openslide.OpenSlide(self.path)
                self._dead.append(failed)  # another thread may still be inside it
            return self._handle

    def _picture(self, name: str) -> UInt8Image:
        with told(self.path):
            sides = [
                self.properties.get(f"openslide.associated.{name}.{side}", "0")
                for side in ("height", "width")
            ]
            if math.prod(int(side) for side in sides) > _MAX_PICTURE_PIXELS:
                raise damaged(self.path, f"its {name} claims {' x '.join(sides)} pixels")
            return over(np.asarray(self._handle.associated_images[name]), self.background)


def _unseen_focus_layers(properties: Mapping[str, str]) -> list[str]:
    """Return a sentence about the focus layers a MIRAX slide names and OpenSlide does not read.

    OpenSlide exposes ``Slidedat.ini`` as properties ``mirax.SECTION.KEY``.
    """
    prefix = "mirax.HIERARCHICAL.HIER_"
    for key, value in properties.items():
        if key.startswith(prefix) and key.endswith("_NAME") and value == "Microscope focus level":
            number = key[len(prefix) : -len("_NAME")]
            count = properties.get(f"{prefix}{number}_COUNT", "0")
            if count.isdigit() and int(count) > 1:
                shown = properties.get(f"{prefix}{number}_VAL_0", "the first")
                return [f"{int(count) - 1} of {count} focus layers; {shown} is shown"]
    return []


def _icc_profile(handle: openslide.OpenSlide) -> bytes | None:
    try:
        profile = handle.color_profile
    except ImageCms.PyCMSError:  # damaged; the pixels are there all the same
        return None
    return None if profile is None else bytes(profile.tobytes())


def _mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    y = _positive(properties.get("openslide.mpp-y"))
    x = _positive(properties.get("openslide.mpp-x"))
    return (y, x) if y is not None and x is not None else None


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _background(properties: Mapping[str, str]) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "")
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:
        return _WHITE
    return red, green, blue
