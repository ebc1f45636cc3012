"""Zeiss CZI with its focal planes, through libCZI (the extra ``czi``)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_focusfuse.slide import (
    MAX_SIDE,
    FocalPlane,
    Level,
    Region,
    Slide,
    SlideError,
    UInt8Image,
    UnsupportedSlideError,
)

from .faults import damaged, not_rgb, told
from .probe import probe
from .resolution import micrometres, pixel_size
from .unchanged import Unchanged

_MAX_PLANES = 1000
_MAX_BLOCKS = 1 << 21
_MAX_BLOCK_PIXELS = 1 << 27
_CACHE_BYTES = 64 << 20
_AXES = {"T": "time points", "C": "channels"}


def is_czi(start: bytes) -> bool:
    """Tell from its first bytes whether a file is CZI."""
    return start.startswith(b"ZISRAWFILE")


def open_czi(path: Path, zero: int | None = None) -> Slide:
    """Open a CZI; without libCZI one of a single plane, through OpenSlide.

    Raises
    ------
    SlideError
        If it is damaged, is no 8-bit RGB image, or libCZI would be needed.
    """
    try:
        from pylibCZIrw import czi
    except ImportError:
        return _open_without(path, zero)
    with ExitStack() as stack:
        with told(path):
            probe(path, "czi")
            cache = czi.CacheOptions(czi.CacheType.Standard, max_memory_usage=_CACHE_BYTES)
            file = stack.enter_context(czi.open_czi(str(path), cache_options=cache))
            slide = CziSlide(path, file, zero)
        slide.closing = stack.pop_all()
        return slide


def _open_without(path: Path, zero: int | None) -> Slide:
    from .openslide import open_openslide

    try:
        return open_openslide(path, zero)
    except SlideError as error:
        raise UnsupportedSlideError(
            f"{path.name} is a Zeiss CZI that needs one more library; "
            "run: pip install 'napari-focusfuse[czi]'."
        ) from error


class CziSlide(Slide):
    """All scenes of a CZI as one image, as they lie on the slide.

    Parameters
    ----------
    path
        Where the file lies.
    file
        The open ``czi.CziReader``.
    zero
        Index of the plane that counts as layer 0, or None for the middle one.
    """

    format = "czi"

    def __init__(self, path: Path, file: Any, zero: int | None = None) -> None:
        self._file = file
        self._unchanged = Unchanged(path)
        self._reading = threading.Lock()
        self._closed = False
        self.closing = ExitStack()
        """Closes the file."""
        if file.pixel_types.get(0) != "Bgr24":
            raise not_rgb(path.name, f"{file.pixel_types.get(0, 'unknown')} values")
        whole = file.total_bounding_rectangle_no_pyramid
        self._origin = int(whole.y), int(whole.x)
        full = int(whole.h), int(whole.w)
        if not 0 < min(full) <= max(full) <= MAX_SIDE:
            raise damaged(path, f"it claims {full[1]} x {full[0]} pixels")
        blocks = _blocks(path, file)
        self._downsamples = blocks.downsamples
        self._places = {axis: blocks.axes.get(axis, (0,)) for axis in "ZCT"}
        heights = self._places["Z"]
        facts = _Facts(file.raw_metadata)
        levels = [Level.under(full, (full[0] // d, full[1] // d)) for d in self._downsamples]
        step = facts.size("Z") if len(heights) > 1 else None
        step = step if step and step > 0 else None
        super().__init__(
            path,
            planes=[
                FocalPlane(i, f"Plane {i + 1}", None if step is None else (z - heights[0]) * step)
                for i, z in enumerate(heights)
            ],
            levels=levels,
            zero=zero,
            mpp=pixel_size(facts.size("Y"), facts.size("X")),
            objective=facts.objective,
            not_shown=_not_shown(blocks.axes),
        )

    def close(self) -> None:
        """Close the file."""
        with self._reading:
            self._closed = True
            self.closing.close()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        times = self._downsamples[level]
        top, left = self._origin
        roi = (
            left + region.x * times,
            top + region.y * times,
            region.width * times,
            region.height * times,
        )
        with told(self.path), self._reading:
            if self._closed:
                raise SlideError(f"{self.path.name} is closed; open it again.")
            self._unchanged.check()
            pixels = self._file.read(
                roi=roi,
                plane={
                    "Z": self._places["Z"][plane.index],
                    "C": self._places["C"][0],
                    "T": self._places["T"][0],
                },
                zoom=1 / times,
                background_pixel=tuple(value / 255 for value in self.background),
            )
        if pixels.shape != (region.height, region.width, 3) or pixels.dtype != np.uint8:
            raise damaged(self.path, f"a region of it is {pixels.shape}")
        return np.ascontiguousarray(pixels[..., ::-1])  # blue comes first


@dataclass(frozen=True)
class _Blocks:
    """What the directory of a CZI says about all its tiles."""

    downsamples: tuple[int, ...]
    """Whole factors by which the stored levels are smaller, from 1."""
    axes: Mapping[str, tuple[int, ...]]
    """Coordinates along each axis other than y and x, increasing; they need not start at 0."""


def _blocks(path: Path, file: Any) -> _Blocks:
    """Walk through the directory; no tile is read."""
    zooms: set[float] = set()
    found: dict[str, set[int]] = {}
    count = largest = 0

    def visit(index: int, block: Any) -> bool:
        nonlocal count, largest
        count += 1
        largest = max(largest, block.physicalSize.w * block.physicalSize.h)
        zooms.add(block.get_zoom())
        for axis, place in block.coordinate.to_dict().items():
            found.setdefault(axis, set()).add(int(place))
        return count <= _MAX_BLOCKS

    file.enumerate_subblocks(visit)
    planes = len(found.get("Z", ()))
    if count > _MAX_BLOCKS or largest > _MAX_BLOCK_PIXELS or planes > _MAX_PLANES:
        raise damaged(
            path, f"it claims {planes} focus layers, {count} tiles of up to {largest} pixels"
        )
    whole = file.total_bounding_rectangle_no_pyramid
    factors = {round(1 / zoom) for zoom in zooms if zoom > 1 / MAX_SIDE}
    fitting = {factor for factor in factors if 1 < factor <= min(whole.w, whole.h)}
    return _Blocks(
        (1, *sorted(fitting)), {axis: tuple(sorted(places)) for axis, places in found.items()}
    )


class _Facts:
    """What the XML of a CZI says about sizes."""

    def __init__(self, xml: str) -> None:
        self._root = ElementTree.fromstring(xml) if xml else ElementTree.Element("nothing")

    def size(self, axis: str) -> float | None:
        """Return the micrometres per pixel or plane along an axis."""
        node = self._root.find(f".//Scaling/Items/Distance[@Id='{axis}']/Value")
        return micrometres(node.text, "m") if node is not None else None

    @property
    def objective(self) -> float | None:
        """Magnification of the objective."""
        node = self._root.find(".//Instrument/Objectives/Objective/NominalMagnification")
        power = micrometres(node.text) if node is not None else None
        return power if power and power > 0 else None


def _not_shown(axes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [
        f"{len(span) - 1} of {len(span)} {_AXES.get(axis, 'further images')}"
        for axis, span in axes.items()
        if axis not in "ZSM" and len(span) > 1
    ]
