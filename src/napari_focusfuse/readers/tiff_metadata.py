"""Scale and heights as the several kinds of TIFF state them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .faults import damaged
from .resolution import micrometres, pixel_size, plausible_pixel_size

_NDPI_Z, _NDPI_MAGNIFICATION = 65424, 65421
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _DESCRIPTION = 282, 283, 296, 270
_ICC_PROFILE = 34675
_MAX_IMAGES = 1 << 20
_MAX_PROFILE = 1 << 24
_MAX_XML = 1 << 26
_UNITS = {2: 25400.0, 3: 10000.0}  # TIFF 6.0: inch, centimetre


@dataclass(frozen=True)
class TiffMetadata:
    """What the file says about the sizes of one image; None is unknown."""

    mpp: tuple[float, float] | None = None
    objective: float | None = None
    heights_um: tuple[float, ...] | None = None
    """Height of each stored plane in micrometres, in the order of the file."""


def check_ome(path: Path, file: Any) -> None:
    """Refuse OME-XML that claims more images than a file can hold; a list is made of them."""
    xml = file.ome_metadata or ""
    if len(xml) > _MAX_XML:
        raise damaged(path, "its description is larger than any real one")
    for sizes in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", xml):
        claimed = math.prod(int(n) for n in re.findall(r"\bSize[CTZ]\s*=\s*[\"'](\d+)", sizes))
        if claimed > _MAX_IMAGES:
            raise damaged(path, f"it claims {claimed} images")


def unpaged_images(page: Any) -> int:
    """Return how many images a comment of tifffile's names beyond the page it stands in.

    Only tifffile's own comment says so, and it is not checked against the file; such images follow
    the first without a page of their own.
    """
    text = str(page.tags.valueof(_DESCRIPTION) or "")
    found = re.match(r'\{"shape": \[([\d, ]+)\]', text)
    claimed = math.prod(int(side) for side in found[1].split(",") if side.strip()) if found else 0
    return max(0, claimed // max(1, int(page.size)) - 1)


def read_metadata(file: Any, series: Any, planes: int) -> TiffMetadata:
    """Return what a TIFF says about ``series``, which stores ``planes`` planes.

    Parameters
    ----------
    file, series
        ``tifffile.TiffFile`` and one of its ``TiffPageSeries``.
    """
    page = series.keyframe
    if series.kind == "ome":
        return _ome(file.ome_metadata or "", series, planes)
    if series.kind == "ndpi":
        magnification = page.tags.valueof(_NDPI_MAGNIFICATION)
        objective = float(magnification) if magnification and magnification > 0 else None
        return TiffMetadata(
            _resolution(page), objective, stored_heights(series.kind, series, planes)
        )
    if series.kind == "svs":
        values = _aperio(page)
        side = micrometres(values.get("MPP"))
        return TiffMetadata(
            pixel_size(side, side),
            micrometres(values.get("AppMag")),
            stored_heights(series.kind, series, planes),
        )
    return TiffMetadata(_resolution(page))


def icc_profile(page: Any) -> bytes | None:
    """Return the colour profile of a page, or None; one of over 16 MB is none."""
    tag = page.tags.get(_ICC_PROFILE)
    if tag is None or tag.count > _MAX_PROFILE or not isinstance(tag.value, bytes):
        return None
    return bytes(tag.value)


def stored_heights(kind: str, level: Any, planes: int) -> tuple[float, ...] | None:
    """Return the height of each page of a Hamamatsu or Aperio level in micrometres, or None."""
    if kind not in ("ndpi", "svs") or len(level.pages) != planes:
        return None
    if kind == "ndpi":
        found = [micrometres(p.tags.valueof(_NDPI_Z), "nm") for p in level.pages]
    else:
        found = [micrometres(_aperio(p).get("OffsetZ")) for p in level.pages]
    heights = [height for height in found if height is not None]
    return tuple(heights) if len(heights) == planes else None


def _aperio(page: Any) -> dict[str, str]:
    """Return the ``|``-separated ``name = value`` pairs of an Aperio description."""
    text = str(page.tags.valueof(_DESCRIPTION) or "")
    pairs = re.findall(r"\|\s*([^|=]+?)\s*=\s*([^|]*)", text)
    return {name: value.strip() for name, value in pairs}


def _resolution(page: Any) -> tuple[float, float] | None:
    per_unit = _UNITS.get(page.tags.valueof(_RESOLUTION_UNIT, 2))
    sides: list[float | None] = []
    for tag in (_Y_RESOLUTION, _X_RESOLUTION):
        value = page.tags.valueof(tag)
        rational = isinstance(value, tuple) and len(value) == 2 and all(value)
        sides.append(per_unit * value[1] / value[0] if rational and per_unit else None)
    return plausible_pixel_size(sides[0], sides[1])


def _ome(xml: str, series: Any, planes: int) -> TiffMetadata:
    images = [node for node in ElementTree.fromstring(xml) if _name(node) == "Image"]
    named = [node for node in images if node.get("Name") == series.name]
    if len(named) != 1:
        named = images[series.index : series.index + 1]
    pixels = next((n for image in named for n in image if _name(n) == "Pixels"), None)
    if pixels is None:
        return TiffMetadata()
    size = pixel_size(_physical(pixels, "Y"), _physical(pixels, "X"))
    heights = _positions(pixels, planes)
    step = _physical(pixels, "Z")
    if heights is None and step is not None and step > 0 and planes > 1:
        heights = tuple(step * index for index in range(planes))
    return TiffMetadata(size, None, heights)


def _physical(pixels: ElementTree.Element, axis: str) -> float | None:
    unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
    return micrometres(pixels.get(f"PhysicalSize{axis}"), unit)


def _positions(pixels: ElementTree.Element, planes: int) -> tuple[float, ...] | None:
    """Return the stage heights of the planes if all are given in a unit of length."""
    found: dict[int, float] = {}
    for node in pixels:
        first = node.get("TheC", "0") == node.get("TheT", "0") == "0"
        if _name(node) != "Plane" or not first:
            continue
        height = micrometres(node.get("PositionZ"), node.get("PositionZUnit", "reference frame"))
        if height is not None:
            found[int(node.get("TheZ", "0"))] = height
    if planes < 2 or set(found) != set(range(planes)) or len(set(found.values())) != planes:
        return None
    return tuple(found[index] for index in range(planes))


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
