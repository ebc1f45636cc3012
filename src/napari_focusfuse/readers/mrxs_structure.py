"""What ``Slidedat.ini`` says of a MIRAX slide: hierarchies, zoom levels, focus slots, files.

Hierarchies are found by name, never by number: a zoom mask or a filter hierarchy may come first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from napari_focusfuse.slide import MAX_SIDE, UnsupportedSlideError

from .faults import damaged
from .mrxs_files import SlideFolder
from .mrxs_ini import Ini
from .resolution import pixel_size

ZOOM, FILTER, FOCUS = "Slide zoom level", "Slide filter level", "Microscope focus level"

MAX_IMAGES = 1 << 23
"""Images of a level; the largest slide known has 849 thousand."""
_MAX_PHOTOS = 1 << 21
_MAX_RECORDS = 1 << 20
_MAX_FILES = 1 << 15
_TILE_SIDES = (16, 8192)
_MAX_TILE_PIXELS = 1 << 24
_MAX_EXPONENT = 16
_LAYER = re.compile(r"ZStackLevel_\(([+-]?\d{1,4})\)", re.ASCII)


@dataclass(frozen=True)
class Hierarchy:
    """One digit of a record's number."""

    name: str
    values: tuple[str, ...]
    sections: tuple[str, ...]
    default: int
    stride: int
    """Records from one value to the next: the product of the counts of the hierarchies before."""


@dataclass(frozen=True)
class NonHierarchy:
    """Records that are no images of a level, such as a label or a table of positions."""

    name: str
    values: tuple[str, ...]
    sections: tuple[str, ...]
    first: int
    """Record of the first value."""


@dataclass(frozen=True)
class Zoom:
    """One zoom level: images of ``tile`` pixels, each of ``concat`` x ``concat`` of the scan."""

    concat: int
    tile: tuple[int, int]
    """(height, width) in pixels."""
    overlap: tuple[float, float]
    """(y, x) in pixels of this level."""
    mpp: tuple[float, float] | None
    image_format: str


@dataclass(frozen=True)
class FocusSlot:
    """One value of the focus hierarchy."""

    number: int
    name: str
    layer: int | None
    """The number in the vendor's name; None for the extended focus and unknown names."""
    z_um: float | None

    @property
    def is_extended(self) -> bool:
        """Whether this is the plane the scanner fused from the others."""
        return self.name.casefold().startswith("extfocus")


@dataclass(frozen=True)
class Structure:
    """All of a slide but its index and pixels."""

    ini: Ini
    slide_id: str
    images: tuple[int, int]
    """Rows and columns of images at zoom 0, were it stored without concatenation."""
    divisions: int
    """Images per side that a photo of the camera is cut into."""
    hierarchies: tuple[Hierarchy, ...]
    others: tuple[NonHierarchy, ...]
    zooms: tuple[Zoom, ...]
    slots: tuple[FocusSlot, ...]
    """One nameless slot where there is no focus hierarchy."""
    files: tuple[str, ...]
    index_file: str
    page: int
    background: tuple[int, int, int]

    @property
    def photos(self) -> tuple[int, int]:
        """Rows and columns of photos."""
        return self.images[0] // self.divisions, self.images[1] // self.divisions

    @cached_property
    def base(self) -> tuple[int, int]:
        """(height, width) in pixels of the scan, photos at their nominal places."""
        sides = zip(
            self.images, self.photos, self.zooms[0].tile, self.zooms[0].overlap, strict=True
        )
        found = [images * side - (photos - 1) * math.ceil(o) for images, photos, side, o in sides]
        return found[0], found[1]

    def shape(self, zoom: int) -> tuple[int, int]:
        """(height, width) in pixels of a zoom level."""
        concat = self.zooms[zoom].concat
        return self.base[0] // concat, self.base[1] // concat

    def hierarchy(self, name: str) -> Hierarchy | None:
        """Return a hierarchy by its name."""
        return next((h for h in self.hierarchies if h.name.casefold() == name.casefold()), None)

    def other(self, name: str) -> NonHierarchy | None:
        """Return a non-hierarchical group by its name."""
        return next((h for h in self.others if h.name.casefold() == name.casefold()), None)

    def record(self, zoom: int, slot: int, filter_level: int | None = None) -> int:
        """Return the number of a record: a digit per hierarchy, the first counting fastest."""
        digits = {ZOOM: zoom, FOCUS: slot}
        if filter_level is not None:
            digits[FILTER] = filter_level
        return sum(h.stride * digits.get(h.name, h.default) for h in self.hierarchies)

    @property
    def records(self) -> int:
        """How many records the hierarchies span."""
        return math.prod(len(h.values) for h in self.hierarchies)


def read_structure(folder: SlideFolder, ini: Ini) -> Structure:
    """Read what the ini file says, every size checked.

    Raises
    ------
    SlideError
        If something is missing or cannot be.
    """
    hierarchies = _hierarchies(folder, ini)
    zoom_levels = next((h for h in hierarchies if h.name == ZOOM), None)
    if zoom_levels is None:
        raise damaged(folder.slide, "Slidedat.ini names no zoom levels")
    zooms = _zooms(folder, ini, zoom_levels)
    images = (
        ini.integer("GENERAL", "IMAGENUMBER_Y", 1, MAX_SIDE),
        ini.integer("GENERAL", "IMAGENUMBER_X", 1, MAX_SIDE),
    )
    divisions = ini.integer("GENERAL", "CameraImageDivisionsPerSide", 1, 64, 1)
    _check_counts(folder, images, divisions, zooms)
    count = ini.integer("DATAFILE", "FILE_COUNT", 1, _MAX_FILES)
    colour = ini.integer(zoom_levels.sections[0], "IMAGE_FILL_COLOR_BGR", 0, 0xFFFFFF, 0xFFFFFF)
    found = Structure(
        ini=ini,
        slide_id=ini.text("GENERAL", "SLIDE_ID"),
        images=images,
        divisions=divisions,
        hierarchies=hierarchies,
        others=_others(ini),
        zooms=zooms,
        slots=_slots(ini, hierarchies),
        files=tuple(ini.text("DATAFILE", f"FILE_{i}") for i in range(count)),
        index_file=ini.text("HIERARCHICAL", "INDEXFILE"),
        page=ini.integer("HIERARCHICAL", "PAGEELEMENTCOUNT", 1, 1 << 16, 128),
        background=(colour & 0xFF, colour >> 8 & 0xFF, colour >> 16),
    )
    if not all(0 < side <= MAX_SIDE for side in found.shape(0)):
        raise damaged(
            folder.slide,
            f"it says it is {found.shape(0)[1]} x {found.shape(0)[0]} pixels, and sides of 1 to "
            f"{MAX_SIDE} can be read",
        )
    return found


def _hierarchies(folder: SlideFolder, ini: Ini) -> tuple[Hierarchy, ...]:
    found: list[Hierarchy] = []
    stride = 1
    for i in range(ini.integer("HIERARCHICAL", "HIER_COUNT", 1, 16)):
        name, values, sections = _values(ini, f"HIER_{i}", 1)
        known = next((n for n in (ZOOM, FILTER, FOCUS) if n.casefold() == name.casefold()), name)
        default = ini.integer("HIERARCHICAL", f"HIER_{i}_DEFAULT", 0, len(values) - 1, 0)
        found.append(Hierarchy(known, values, sections, default, stride))
        stride *= len(values)
        if stride > _MAX_RECORDS:
            raise damaged(folder.slide, f"Slidedat.ini claims more than {_MAX_RECORDS} records")
    return tuple(found)


def _values(ini: Ini, prefix: str, low: int) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the name of a hierarchy, its values and the section of each."""
    name = ini.text("HIERARCHICAL", f"{prefix}_NAME")
    count = ini.integer("HIERARCHICAL", f"{prefix}_COUNT", low, 4096)
    values = [ini.get("HIERARCHICAL", f"{prefix}_VAL_{j}") or "" for j in range(count)]
    sections = [ini.get("HIERARCHICAL", f"{prefix}_VAL_{j}_SECTION") or "" for j in range(count)]
    return name, tuple(values), tuple(sections)


def _others(ini: Ini) -> tuple[NonHierarchy, ...]:
    found: list[NonHierarchy] = []
    first = 0
    for i in range(ini.integer("HIERARCHICAL", "NONHIER_COUNT", 0, 256, 0)):
        name, values, sections = _values(ini, f"NONHIER_{i}", 0)
        found.append(NonHierarchy(name, values, sections, first))
        first += len(values)
    return tuple(found)


def _zooms(folder: SlideFolder, ini: Ini, levels: Hierarchy) -> tuple[Zoom, ...]:
    found: list[Zoom] = []
    exponent = 0
    for i, section in enumerate(levels.sections):
        exponent += ini.integer(section, "IMAGE_CONCAT_FACTOR", min(i, 1), _MAX_EXPONENT)
        if exponent > _MAX_EXPONENT:
            raise damaged(folder.slide, f"zoom level {i} is reduced by 2 to the power {exponent}")
        tile = (
            ini.integer(section, "DIGITIZER_HEIGHT", *_TILE_SIDES),
            ini.integer(section, "DIGITIZER_WIDTH", *_TILE_SIDES),
        )
        if math.prod(tile) > _MAX_TILE_PIXELS:
            raise damaged(folder.slide, f"it claims tiles of {tile[1]} x {tile[0]} pixels")
        found.append(
            Zoom(
                concat=1 << exponent,
                tile=tile,
                overlap=(
                    ini.number(section, "OVERLAP_Y") or 0,
                    ini.number(section, "OVERLAP_X") or 0,
                ),
                mpp=pixel_size(
                    ini.number(section, "MICROMETER_PER_PIXEL_Y"),
                    ini.number(section, "MICROMETER_PER_PIXEL_X"),
                ),
                image_format=ini.text(section, "IMAGE_FORMAT"),
            )
        )
    return tuple(found)


def _check_counts(
    folder: SlideFolder, images: tuple[int, int], divisions: int, zooms: Sequence[Zoom]
) -> None:
    rows, columns = images
    if rows * columns > MAX_IMAGES or rows * columns // divisions**2 > _MAX_PHOTOS:
        raise damaged(folder.slide, f"it claims {columns} x {rows} images")
    if rows % divisions or columns % divisions or divisions & (divisions - 1):
        raise damaged(
            folder.slide, f"{columns} x {rows} images are not whole photos of {divisions} a side"
        )
    sides = zip(zooms[0].tile, zooms[0].overlap, strict=True)
    if any(not 0 <= overlap < divisions * side for side, overlap in sides):
        raise damaged(folder.slide, "its photos overlap by more than their size")
    if len({zoom.tile for zoom in zooms}) > 1:
        raise UnsupportedSlideError(
            f"{folder.slide.name} has tiles of another size at every zoom level, which this "
            "version does not read; export it as DICOM or OME-TIFF."
        )


def _slots(ini: Ini, hierarchies: Sequence[Hierarchy]) -> tuple[FocusSlot, ...]:
    focus = next((h for h in hierarchies if h.name == FOCUS), None)
    if focus is None:
        return (FocusSlot(0, "", None, None),)
    found = []
    for number, (name, section) in enumerate(zip(focus.values, focus.sections, strict=True)):
        match = _LAYER.search(name)
        layer = int(match[1]) if match else None
        found.append(FocusSlot(number, name, layer, ini.number(section, "OFFSET_IN_MICROMETERS")))
    return tuple(found)
