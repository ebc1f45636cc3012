"""DICOM whole-slide microscopy with its focal planes, through wsidicom.

wsidicom finds the frames; which plane is read is always said, because its default is not the
middle one.  A slide is all files of one series: levels, planes and extended focus may be files of
their own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_focusfuse.slide import FocalPlane, Level, Region, Slide, SlideError, UInt8Image

from .associated import Pictures
from .dicom_header import (
    MAX_PLANES,
    MEASURES,
    ClampedFile,
    DicomHeader,
    Series,
    read_series,
)
from .faults import damaged, not_rgb, told
from .resolution import pixel_size
from .unchanged import Unchanged

_PICTURES = {"label": "label", "overview": "macro", "thumbnail": "thumbnail"}
_MAX_PICTURE_PIXELS = 1 << 26
_MAX_SPARSE_TILES = 1 << 24
_SAME_PLACE_MM = 0.02


def open_dicom(path: Path, zero: int | None = None) -> DicomSlide:
    """Open the slide that a DICOM file is part of, or that a folder holds.

    Raises
    ------
    SlideError
        If a file is damaged, or is no 8-bit RGB whole-slide image.
    """
    with told(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break a rule of spelling
        from wsidicom.config import Settings, use_settings
        from wsidicom.file import WsiDicomFileSource

        series = read_series(path)
        with use_settings(Settings(strict_tile_size_check=False)), ExitStack() as stack:
            streams = [
                _stream(stack.enter_context(ClampedFile(header.path)), header)
                for header in series.headers
            ]
            source = stack.enter_context(WsiDicomFileSource(streams))
            slide = DicomSlide(path, source, series, zero)
            stack.pop_all()
            return slide


def _stream(file: ClampedFile, header: DicomHeader) -> Any:
    """Return a file as wsidicom reads it; of a file of one plane, the count of planes as 1."""
    from pydicom.dataelem import DataElement
    from wsidicom.file.io import WsiDicomReadIO
    from wsidicom.paths import as_upath
    from wsidicom.tags import TotalPixelMatrixFocalPlanesTag as PLANES

    stream = WsiDicomReadIO(file, as_upath(header.path))
    if header.counts_all_planes:
        read = stream.read_elements_from

        def counting_its_own(position: int, stop: Any, into: dict[Any, Any], **options: Any) -> Any:
            stopped = read(position, stop, into, **options)
            if PLANES in into:
                into[PLANES] = DataElement(PLANES, "UL", 1)
            return stopped

        stream.read_elements_from = counting_its_own
    return stream


@dataclass(frozen=True)
class _Stored:
    """One plane of one level: the tiles of an instance at one height."""

    image: Any
    """``wsidicom.ImageData``."""
    z: float
    optical_path: str

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.image.image_size.height), int(self.image.image_size.width)

    @property
    def tile(self) -> tuple[int, int]:
        return int(self.image.tile_size.height), int(self.image.tile_size.width)


class DicomSlide(Slide):
    """The whole-slide images of one series.

    Parameters
    ----------
    path
        The file or folder that was opened.
    source
        ``wsidicom.file.WsiDicomFileSource``; the slide closes it.
    series
        What the files' headers say.
    zero
        Index of the plane that counts as layer 0, or None for the middle or lowest |z|.
    """

    format = "dicom"

    def __init__(self, path: Path, source: Any, series: Series, zero: int | None = None) -> None:
        self._source = source
        self._unchanged = Unchanged(path, [header.path for header in series.headers])
        self._closed = False
        found = list(source.level_instances)
        sharp = [i for i in found if not i.ext_depth_of_field] or found
        fused = [i for i in found if i not in sharp]
        stored = _levels(path, sharp)
        self._levels = stored.levels
        extended = _levels(path, fused) if fused else None
        if extended and [k[0].shape for k in extended.levels] != [k[0].shape for k in self._levels]:
            extended = None
        self._extended = [level[0] for level in extended.levels] if extended else []
        self._pictures = {
            _PICTURES[kind]: instance
            for kind in _PICTURES
            for instance in getattr(source, f"{kind}_instances")
        }
        shapes = [level[0].shape for level in self._levels]
        super().__init__(
            path,
            planes=_planes(self._levels[0]),
            levels=[Level.under(shapes[0], shape) for shape in shapes],
            zero=zero,
            extended=FocalPlane(-1, "Extended focus") if self._extended else None,
            mpp=_mpp(self._levels[0][0].image),
            objective=_objective(series.headers, shapes[0]),
            icc_profile=_icc_profile(series.headers, shapes[0]),
            warnings=[*series.warnings, *_unread(series, source)],
            not_shown=[
                *series.not_shown,
                *stored.not_shown,
                *(["an extended focus of another size"] if fused and not self._extended else []),
            ],
        )

    @property
    def associated(self) -> Mapping[str, UInt8Image]:
        """Label, macro and thumbnail, decoded on access."""
        return Pictures(self._pictures, self._picture)

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return whole tiles of the file, about 512 pixels or more a side."""
        height, width = (side * -(-512 // side) for side in self._levels[level][0].tile)
        return min(height, 2048), min(width, 2048)

    def close(self) -> None:
        """Close the files."""
        self._closed = True
        self._source.close()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        fused = plane == self.extended
        stored = self._extended[level] if fused else self._levels[level][plane.index]
        return self._pixels(stored, region)

    def _pixels(self, stored: _Stored, region: Region) -> UInt8Image:
        """Read tile by tile; what a sparse image does not store is background."""
        out = np.empty((region.height, region.width, 3), dtype=np.uint8)
        out[:] = self.background
        with told(self.path):
            if self._closed:
                raise SlideError(f"{self.path.name} is closed; open it again.")
            for file in stored.image.files:
                self._unchanged.check(Path(str(file)))
            for y, x, tile in _tiles(stored, region, self.path):
                whole = Region(y, x, *tile.shape[:2])
                top, left = max(y, region.y), max(x, region.x)
                stop_y = min(whole.stop_y, region.stop_y)
                stop_x = min(whole.stop_x, region.stop_x)
                out[top - region.y : stop_y - region.y, left - region.x : stop_x - region.x] = tile[
                    top - y : stop_y - y, left - x : stop_x - x
                ]
        return out

    def _picture(self, name: str) -> UInt8Image:
        with told(self.path):
            image = self._pictures[name].image_data
            if (image.samples_per_pixel, image.bits) != (3, 8):
                raise not_rgb(self.path.name, f"a {name} that is grey")
            stored = _Stored(image, image.focal_planes[0], image.optical_paths[0])
            if math.prod(stored.shape) > _MAX_PICTURE_PIXELS:
                raise damaged(self.path, f"its {name} claims {stored.shape} pixels")
            return self._pixels(stored, Region(0, 0, *stored.shape))


def _tiles(stored: _Stored, region: Region, path: Path) -> Iterator[tuple[int, int, UInt8Image]]:
    """Yield the place (y, x) and pixels of each tile under a region."""
    from wsidicom.geometry import Point

    image, (height, width) = stored.image, stored.tile
    measure = MEASURES[str(image.transfer_syntax)]
    for row in range(region.y // height, (region.stop_y - 1) // height + 1):
        for column in range(region.x // width, (region.stop_x - 1) // width + 1):
            where = (Point(column, row), stored.z, stored.optical_path)
            if image.is_sparse(*where):
                continue
            frame = image.get_encoded_tile(*where)
            found = measure(frame) if measure else (height, width)
            if found != (height, width):
                raise damaged(path, f"a tile says it is {found}, not ({height}, {width})")
            tile = np.asarray(image.decoder.decode(frame))
            if tile.shape != (height, width, 3) or tile.dtype != np.uint8:
                raise damaged(path, f"a tile is {tile.shape}, not ({height}, {width}, 3)")
            yield row * height, column * width, tile


@dataclass(frozen=True)
class _Levels:
    """The planes of each level, from the largest, z increasing; and what is left out."""

    levels: list[tuple[_Stored, ...]]
    not_shown: list[str]


def _levels(path: Path, instances: Sequence[Any]) -> _Levels:
    """Sort instances into levels that hold the same planes."""
    largest = max(instances, key=lambda i: i.size.width * i.size.height)
    _check_sparse(path, instances)
    optical_path = largest.optical_paths[0]
    by_shape: dict[tuple[int, int], dict[float, _Stored]] = {}
    left_out = []
    for instance in instances:
        if not _same_place(largest, instance) or optical_path not in instance.optical_paths:
            left_out.append(f"image of {instance.size.width} x {instance.size.height} pixels")
            continue
        others = len(instance.optical_paths) - 1
        if others and instance is largest:
            left_out.append(f"{others} of {others + 1} optical paths")
        planes = by_shape.setdefault((instance.size.height, instance.size.width), {})
        for z in instance.focal_planes:
            planes.setdefault(z, _Stored(instance.image_data, z, optical_path))
    shapes = sorted(by_shape, reverse=True)
    heights = sorted(by_shape[shapes[0]])
    if len(heights) > MAX_PLANES:
        raise damaged(path, f"it claims {len(heights)} focus layers")
    levels = []
    for shape in shapes:
        planes = by_shape[shape]
        if sorted(planes) == heights:
            levels.append(tuple(planes[z] for z in heights))
        else:
            left_out.append(f"a level of {shape[1]} x {shape[0]} pixels with other focus layers")
    return _Levels(levels, left_out)


def _check_sparse(path: Path, instances: Sequence[Any]) -> None:
    """Refuse before wsidicom makes a table of all tiles for each height that a frame names."""
    for instance in instances:
        for dataset in instance.datasets:
            if dataset.tile_type.name != "SPARSE":
                continue
            heights = dataset.frame_positions.z_offsets
            count = 1 if heights is None else len(np.unique(heights))
            grid = dataset.image_size.ceil_div(dataset.tile_size)
            if count > MAX_PLANES or count * grid.width * grid.height > _MAX_SPARSE_TILES:
                raise damaged(path, f"it claims {count} focus layers of {grid} tiles")


def _same_place(one: Any, other: Any) -> bool:
    """Tell whether two instances show the same part of the slide, as far as they say."""
    places = one.image_coordinate_system, other.image_coordinate_system
    if None in places:
        return True
    return bool(places[0].origin_and_rotation_match(places[1], _SAME_PLACE_MM))


def _planes(stored: Sequence[_Stored]) -> list[FocalPlane]:
    """Return the planes; the height 0 of a single one is what wsidicom says where there is none."""
    known = len(stored) > 1 or stored[0].z != 0
    return [FocalPlane(i, f"Plane {i + 1}", s.z if known else None) for i, s in enumerate(stored)]


def _mpp(image: Any) -> tuple[float, float] | None:
    spacing = image.pixel_spacing
    return pixel_size(spacing.height * 1000, spacing.width * 1000) if spacing else None


def _objective(headers: Sequence[DicomHeader], shape: tuple[int, int]) -> float | None:
    return next((h.objective for h in headers if h.shape == shape), None)


def _icc_profile(headers: Sequence[DicomHeader], shape: tuple[int, int]) -> bytes | None:
    return next((h.icc_profile for h in headers if h.shape == shape), None)


def _unread(series: Series, source: Any) -> list[str]:
    """Return a sentence for each file that wsidicom did not take, of which it says nothing."""
    read = {Path(str(file)) for file in source.files}
    lost = [header.path.name for header in series.headers if header.path not in read]
    return [f"{name} is damaged or of an unknown kind, so it is left out." for name in lost[:3]]
