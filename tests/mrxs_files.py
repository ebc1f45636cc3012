"""MIRAX slides written from scratch, as OpenSlide opens them: any layers, codecs and tables."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from slide_files import Stack, halved

IDENTITY = "0123456789ABCDEF0123456789ABCDEF"
PATIENT = "Doe, Jane"
FIRST_PAYLOAD = 296
"""A data file starts with version, slide id, number and zeros."""
ASSOCIATED = {
    "macro": ("ScanDataLayer_SlideThumbnail", "THUMBNAIL"),
    "label": ("ScanDataLayer_SlideBarcode", "BARCODE"),
    "thumbnail": ("ScanDataLayer_SlidePreview", "PREVIEW"),
}


@dataclass(frozen=True)
class Slot:
    """One value of the focus hierarchy; ``scene`` is what it sees, None if nothing is stored."""

    name: str
    scene: Stack | None
    z_um: float = 0.0
    last_zoom: int | None = None


@dataclass(frozen=True)
class Layout:
    """How a slide is cut up and stored."""

    tile: tuple[int, int] = (32, 48)
    zooms: int = 3
    divisions: int = 1
    overlap: tuple[int, int] = (0, 0)
    jitter: int = 0
    """Most pixels by which a photo lies off its nominal place."""
    positions: str | None = None
    """``"vimslide"``, ``"zlib"`` or None: the table of camera positions."""
    missing: frozenset[tuple[int, int]] = frozenset()
    """Photos (row, column) that were not taken."""
    first_exponent: int = 0
    """IMAGE_CONCAT_FACTOR of zoom 0."""
    codec: str = "PNG"
    quality: int = 90
    subsampling: int = 0
    mask: bool = False
    filters: Sequence[str] = ("Red", "Green", "Blue")
    stored_filters: Sequence[int] = ()
    """Further filter levels with images of their own: those of slot 0."""
    rule: str = "both"
    """Where the lists of further focus slots are found: "table", "adjacent", "both", "neither"."""
    page: int = 128
    scattered: bool = False
    """Pages of a list lie backwards in the file."""
    images_per_file: int = 1000
    background: int = 0xFFFFFF
    comma: bool = False
    kind: str = "SLIDE_TYPE_BRIGHTFIELD"
    associated: Mapping[str, Stack] = field(default_factory=dict)
    overview: bytes = b""


def focus_slots(
    scenes: Sequence[Stack], first: int = 0, *, fused: Stack | None = None, step: float = 1.0
) -> list[Slot]:
    """Return slots as scanners name them: the extended focus, then layers ``first``, + 1, ..."""
    slots = [] if fused is None else [Slot("ExtFocusLevel", fused)]
    for number, scene in enumerate(scenes, first):
        slots.append(Slot(f"ZStackLevel_({number})", scene, number * step))
    return slots


def in_front(slots: Sequence[Slot], index: int) -> list[Slot]:
    """Return the slots with one moved to slot 0, which is the one OpenSlide reads."""
    return [slots[index], *slots[:index], *slots[index + 1 :]]


def write_mrxs(path: Path, slots: Sequence[Slot], layout: Layout | None = None) -> Path:
    """Write ``path`` and the folder beside it."""
    writer = _Writer(path, list(slots), layout or Layout())
    writer.write()
    return path


def edit_ini(path: Path, *changes: tuple[str, str]) -> Path:
    """Replace text in a slide's Slidedat.ini."""
    file = path.with_suffix("") / "Slidedat.ini"
    text = file.read_bytes().decode("utf-8-sig")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return path


def encode(tile: Stack, layout: Layout) -> bytes:
    if layout.codec == "JPEGXR":
        return imagecodecs.jpegxr_encode(tile)
    if layout.codec == "JPEG2000":
        return imagecodecs.jpeg2k_encode(tile, level=0, mct=False, codecformat="j2k")
    buffer = io.BytesIO()
    jpeg = {"quality": layout.quality, "subsampling": layout.subsampling}
    options = jpeg if layout.codec == "JPEG" else {}
    Image.fromarray(tile).save(buffer, layout.codec.removesuffix("24"), **options)
    return buffer.getvalue()


class _Writer:
    def __init__(self, path: Path, slots: list[Slot], layout: Layout) -> None:
        self.path, self.slots, self.layout = path, slots, layout
        self.folder = path.with_suffix("")
        side = layout.divisions
        self.photo = (layout.tile[0] * side, layout.tile[1] * side)
        scene = next(slot.scene for slot in slots if slot.scene is not None)
        self.step = tuple(p - o for p, o in zip(self.photo, layout.overlap, strict=True))
        self.photos = tuple(
            1 + (size - photo) // step
            for size, photo, step in zip(scene.shape[:2], self.photo, self.step, strict=True)
        )
        self.images = tuple(count * side for count in self.photos)
        rng = np.random.default_rng(5)
        grid = np.stack(np.mgrid[: self.photos[0], : self.photos[1]], axis=-1) * self.step
        off = rng.integers(-layout.jitter, layout.jitter + 1, grid.shape)
        limit = np.array(scene.shape[:2]) - self.photo
        self.places = np.clip(grid + off, 0, limit)
        self.places[0, 0] = 0
        self.data: list[bytearray] = []
        self._count = 0
        self.lists: dict[tuple[int, int, int], list[tuple[int, int, int, int]]] = {}

    def write(self) -> None:
        self.folder.mkdir(parents=True)
        self.path.write_bytes(self.layout.overview)
        for index, slot in enumerate(self.slots):
            self._store(index, slot)
        extras = self._extras()
        for number, body in enumerate(self.data):
            (self.folder / f"Data{number:04}.dat").write_bytes(body)
        (self.folder / "Index.dat").write_bytes(self._index(extras))
        self._ini()

    def _store(self, index: int, slot: Slot) -> None:
        """Cut a slot's photos, lay them edge to edge, halve and store the images."""
        layout, (height, width) = self.layout, self.photo
        mosaic = np.full((self.photos[0] * height, self.photos[1] * width, 3), 255, np.uint8)
        if slot.scene is None:
            return
        for row, column in np.ndindex(*self.photos):
            y, x = self.places[row, column]
            part = slot.scene[y : y + height, x : x + width]
            mosaic[row * height : (row + 1) * height, column * width : (column + 1) * width] = part
        exponent = layout.first_exponent
        for _ in range(exponent):
            mosaic = halved(mosaic)
        last = layout.zooms - 1 if slot.last_zoom is None else slot.last_zoom
        for zoom in range(last + 1):
            self.lists[zoom, 0, index] = self._zoom(mosaic, 1 << (exponent + zoom))
            if index == 0:
                for number in layout.stored_filters:
                    self.lists[zoom, number, 0] = self._zoom(mosaic, 1 << (exponent + zoom))
            odd = [(0, side % 2) for side in mosaic.shape[:2]]
            mosaic = halved(np.pad(mosaic, [*odd, (0, 0)], mode="edge"))

    def _zoom(self, mosaic: Stack, step: int) -> list[tuple[int, int, int, int]]:
        entries = []
        height, width = self.layout.tile
        for row in range(0, self.images[0], step):
            for column in range(0, self.images[1], step):
                if self._is_missing(row, column, step):
                    continue
                y, x = row // step * height, column // step * width
                part = mosaic[y : y + height, x : x + width]
                tile = np.full((height, width, 3), 255, np.uint8)
                tile[: part.shape[0], : part.shape[1]] = part
                place = self._payload(encode(tile, self.layout))
                entries.append((row * self.images[1] + column, *place))
        return entries

    def _is_missing(self, row: int, column: int, step: int) -> bool:
        side = self.layout.divisions
        rows = range(row // side, min((row + step - 1) // side + 1, self.photos[0]))
        columns = range(column // side, min((column + step - 1) // side + 1, self.photos[1]))
        return all((r, c) in self.layout.missing for r in rows for c in columns)

    def _payload(self, data: bytes) -> tuple[int, int, int]:
        """Append to the newest data file; return (offset, length, number of the file)."""
        if not self.data or self._count == self.layout.images_per_file:
            head = f"01.02{IDENTITY}{len(self.data):03}".encode()
            self.data.append(bytearray(head.ljust(FIRST_PAYLOAD, b"\0")))
            self._count = 0
        body = self.data[-1]
        place = len(body), len(data), len(self.data) - 1
        body += data
        self._count += 1
        return place

    def _extras(self) -> list[tuple[int, int, int]]:
        """Store what is no image of a zoom level, in the order of the non-hierarchical values."""
        found = []
        for image in self.layout.associated.values():
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=90, subsampling=0)
            found.append(self._payload(buffer.getvalue()))
        if self.layout.positions:
            table = b""
            for row, column in np.ndindex(*self.photos):
                there = (row, column) not in self.layout.missing
                y, x = self.places[row, column] * there >> self.layout.first_exponent
                table += struct.pack("<Bii", there, x, y)
            packed = zlib.compress(table) if self.layout.positions == "zlib" else table
            found.append(self._payload(packed))
        return found

    def hierarchies(self) -> list[tuple[str, list[str]]]:
        layout = self.layout
        found = [("Slide zoom level", [f"ZoomLevel_{z}" for z in range(layout.zooms)])]
        if layout.mask:
            found.append(("Slide zoom mask level2", ["ZoomMaskDefault", "ZoomMaskData"]))
        found.append(
            ("Slide filter level", [f"FilterLevel_{i}" for i in range(len(layout.filters))])
        )
        found.append(("Microscope focus level", [slot.name for slot in self.slots]))
        return found

    def _index(self, extras: list[tuple[int, int, int]]) -> bytes:
        layout = self.layout
        counts = [len(values) for _, values in self.hierarchies()]
        body = bytearray(b"01.02" + IDENTITY.encode() + bytes(8))
        heads = self._heads(body)
        table = [0] * int(np.prod(counts))
        focus = int(np.prod(counts[:-1]))
        masks = 2 if layout.mask else 1
        for (zoom, filter_number, slot), entries in self.lists.items():
            if entries and (slot == 0 or layout.rule in ("table", "both")):
                record = zoom + layout.zooms * masks * filter_number + focus * slot
                table[record] = heads[zoom, filter_number, slot]
        struct.pack_into("<i", body, 37, len(body))
        body += struct.pack(f"<{len(table)}i", *table)
        places = []
        for offset, length, file in extras:
            places.append(len(body))
            body += struct.pack("<ii", 0, len(body) + 8)
            body += struct.pack("<8i", 1, 0, 0, 0, offset, length, file, 0)
        struct.pack_into("<i", body, 41, len(body))
        body += struct.pack(f"<{len(places)}i", *places)
        for key, entries in self.lists.items():
            self._pages(body, heads[key], entries)
        return bytes(body)

    def _heads(self, body: bytearray) -> dict[tuple[int, int, int], int]:
        """Append the heads of all lists: the slots of a zoom adjacent, or far from each other."""
        layout = self.layout
        slots, zooms = range(len(self.slots)), range(layout.zooms)
        keys = [(z, f, s) for z in zooms for f in range(len(layout.filters)) for s in slots]
        apart = 0
        if layout.rule in ("table", "neither"):
            keys, apart = sorted(keys, key=lambda key: (key[2], key)), 4
        heads = {}
        for key in keys:
            heads[key] = len(body)
            body += bytes(8 + apart)
        return heads

    def _pages(self, body: bytearray, head: int, entries: list[tuple[int, int, int, int]]) -> None:
        """Append a list: an empty page first, as its head is one."""
        layout = self.layout
        size = 8 + 16 * layout.page
        groups = [entries[i : i + layout.page] for i in range(0, len(entries), layout.page)]
        order = list(range(len(groups)))
        start = len(body)
        body += bytes(size * len(groups))
        places = [start + size * i for i in (order[::-1] if layout.scattered else order)]
        link = head + 4
        for place, group in zip(places, groups, strict=True):
            struct.pack_into("<i", body, link, place)
            struct.pack_into("<ii", body, place, len(group), 0)
            for number, entry in enumerate(group):
                struct.pack_into("<4i", body, place + 8 + 16 * number, *entry)
            link = place + 4

    def _ini(self) -> None:
        sections: dict[str, dict[str, object]] = {
            "GENERAL": {
                "SLIDE_VERSION": "01.02",
                "SLIDE_NAME": PATIENT,
                "PROJECT_NAME": PATIENT,
                "SLIDE_ID": IDENTITY,
                "IMAGENUMBER_X": self.images[1],
                "IMAGENUMBER_Y": self.images[0],
                "CURRENT_SLIDE_VERSION": "2.2",
                "OBJECTIVE_MAGNIFICATION": 40,
                "SLIDE_TYPE": self.layout.kind,
                "CameraImageDivisionsPerSide": self.layout.divisions,
            },
            "HIERARCHICAL": self._hierarchical(),
            "DATAFILE": {"FILE_COUNT": len(self.data)}
            | {f"FILE_{i}": f"Data{i:04}.dat" for i in range(len(self.data))},
        }
        for zoom in range(self.layout.zooms):
            sections[f"LAYER_0_LEVEL_{zoom}_SECTION"] = self._zoom_section(zoom)
        filters = 1 + self.layout.mask
        for number, name in enumerate(self.layout.filters):
            sections[f"LAYER_{filters}_LEVEL_{number}_SECTION"] = {
                "FILTER_NAME": name,
                "STORING_CHANNEL_NUMBER": number,
                "DATA_IN_THIS_FILTER_LEVEL": number == 0 or number in self.layout.stored_filters,
                "ZSTACK_STEP_COUNT": len(self.slots),
            }
        sections[f"LAYER_{filters + 1}_SECTION"] = {
            "EXTENDED_FOCUS_LEVEL": -1,
            "ZERO_FOCUS_LEVEL": 0,
            "LAST_Z_STACKED_ZOOM_LEVEL": 10,
        }
        for number, slot in enumerate(self.slots):
            z = f"{slot.z_um:g}".replace(".", "," if self.layout.comma else ".")
            sections[f"LAYER_{filters + 1}_LEVEL_{number}_SECTION"] = {"OFFSET_IN_MICROMETERS": z}
        for index, name in enumerate(self.layout.associated):
            sections[f"NONHIERLAYER_0_LEVEL_{index}_SECTION"] = {
                f"{ASSOCIATED[name][1]}_IMAGE_TYPE": "JPEG"
            }
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in values.items())]
        text = "\r\n".join(lines) + "\r\n"
        (self.folder / "Slidedat.ini").write_bytes(b"\xef\xbb\xbf" + text.encode())

    def _hierarchical(self) -> dict[str, object]:
        hierarchies, layout = self.hierarchies(), self.layout
        values: dict[str, object] = {
            "HIER_COUNT": len(hierarchies),
            "INDEXFILE": "Index.dat",
            "PAGEELEMENTCOUNT": layout.page,
            "PAGELENGTH": 16 * layout.page,
        }
        for i, (name, names) in enumerate(hierarchies):
            values |= {
                f"HIER_{i}_NAME": name,
                f"HIER_{i}_COUNT": len(names),
                f"HIER_{i}_DEFAULT": 0,
                f"HIER_{i}_SECTION": f"LAYER_{i}_SECTION",
            }
            for j, value in enumerate(names):
                values[f"HIER_{i}_VAL_{j}"] = value
                values[f"HIER_{i}_VAL_{j}_SECTION"] = f"LAYER_{i}_LEVEL_{j}_SECTION"
        groups = []
        if layout.associated:
            groups.append(("Scan data layer", [ASSOCIATED[name][0] for name in layout.associated]))
        if layout.positions == "vimslide":
            groups.append(("VIMSLIDE_POSITION_BUFFER", ["default"]))
        if layout.positions == "zlib":
            groups.append(("StitchingIntensityLayer", ["StitchingIntensityLevel"]))
        values["NONHIER_COUNT"] = len(groups)
        for i, (name, names) in enumerate(groups):
            values |= {f"NONHIER_{i}_NAME": name, f"NONHIER_{i}_COUNT": len(names)}
            for j, value in enumerate(names):
                values[f"NONHIER_{i}_VAL_{j}"] = value
                values[f"NONHIER_{i}_VAL_{j}_SECTION"] = f"NONHIERLAYER_{i}_LEVEL_{j}_SECTION"
        return values

    def _zoom_section(self, zoom: int) -> dict[str, object]:
        layout = self.layout
        return {
            "IMAGE_CONCAT_FACTOR": layout.first_exponent if zoom == 0 else 1,
            "OVERLAP_X": layout.overlap[1] / 2**zoom,
            "OVERLAP_Y": layout.overlap[0] / 2**zoom,
            "MICROMETER_PER_PIXEL_X": 0.25 * 2**zoom,
            "MICROMETER_PER_PIXEL_Y": 0.5 * 2**zoom,
            "IMAGE_FILL_COLOR_BGR": layout.background,
            "DIGITIZER_WIDTH": layout.tile[1],
            "DIGITIZER_HEIGHT": layout.tile[0],
            "IMAGE_FORMAT": layout.codec,
            "IMAGE_COMPRESSION_FACTOR": 90,
        }


def moved(layout: Layout, **changes: object) -> Layout:
    """Return a layout with other values."""
    return replace(layout, **changes)  # type: ignore[arg-type]
