"""OME-Zarr (OME-NGFF 0.4 and 0.5) with a z axis, in a folder."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

from .alpha import over
from .faults import damaged, not_rgb, told
from .resolution import micrometres, pixel_size
from .unchanged import Unchanged
from .zarr_array import ZarrArray, attributes, open_array

_MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_MAX_PLANES = 1000
_MAX_LEVELS = 64
_UNITS = {
    "micrometer": "um",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "picometer": "pm",
    "angstrom": "Å",
    "inch": "in",
}
_RED_GREEN_BLUE = ("FF0000", "00FF00", "0000FF")


def is_zarr(path: Path) -> bool:
    """Tell whether a path is a folder of Zarr."""
    return path.is_dir() and any((path / name).is_file() for name in _MARKS)


def is_ome_zarr_image(path: Path) -> bool:
    """Tell whether a folder is an image this reader shows, or a damaged one; reads no pixel."""
    try:
        open_ome_zarr(path).close()
    except UnsupportedSlideError:
        return False
    except SlideError:
        return True
    return True


def open_ome_zarr(path: Path, zero: int | None = None) -> OmeZarrSlide:
    """Open an image of OME-Zarr, or the largest of a file converted by bioformats2raw.

    Raises
    ------
    SlideError
        If it is damaged, or is no 8-bit RGB image.
    """
    with told(path):
        images = _all_images(path)
        largest = _largest(images)
        _check_colour(path, largest)
        return OmeZarrSlide(path, largest, [i for i in images if i is not largest], zero)


def zarr_map(path: Path) -> tuple[list[ZarrArray], tuple[float, float] | None]:
    """Return the levels of an image of one value per pixel, and its (y, x) um per pixel.

    Raises
    ------
    UnsupportedSlideError
        If it has channels or further axes.
    """
    image = _largest(_all_images(path))
    if any(level.axes != "yx" for level in image.levels):
        raise UnsupportedSlideError(f"{path.name} is no map of one value per pixel; open a slide.")
    return [level.array for level in image.levels], _mpp(image)


def _all_images(path: Path) -> list[_Image]:
    images = [image for folder in _image_folders(path) for image in _images(path, folder)]
    if not images:
        raise UnsupportedSlideError(
            f"{path.name} is Zarr without an OME-Zarr image; open the folder of an image of "
            "OME-Zarr 0.4 or 0.5."
        )
    return images


def _largest(images: Sequence[_Image]) -> _Image:
    return max(images, key=lambda image: math.prod(image.levels[0].yx))


def _mpp(image: _Image) -> tuple[float, float] | None:
    units = _short_units(image)
    return pixel_size(*(_size(image.levels[0], axis, units) for axis in "yx"))


def _short_units(image: _Image) -> dict[str, str]:
    return {axis: _UNITS.get(unit.lower(), unit) for axis, unit in image.units.items()}


def _icc_profile(path: Path) -> bytes | None:
    """Return the colour profile that our writer keeps; OME-Zarr has no place for one."""
    ours = attributes(path).get("napari-focusfuse")
    text = ours.get("icc_profile") if isinstance(ours, Mapping) else None
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


@dataclass(frozen=True)
class _Stored:
    """One array and what each of its axes is."""

    array: ZarrArray
    axes: str
    """One of t, c, z, y, x for each axis."""
    scale: tuple[float, ...]
    translation: tuple[float, ...]

    def side(self, axis: str) -> int:
        """Return the length of an axis, 1 if there is none."""
        return self.array.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def yx(self) -> tuple[int, int]:
        return self.side("y"), self.side("x")

    def read(self, plane: int, region: Region) -> UInt8Image:
        """Read an RGB or RGBA rectangle of a plane at the first time point."""
        of = {
            "t": (0, 1),
            "c": (0, self.side("c")),
            "z": (plane, plane + 1),
            "y": (region.y, region.stop_y),
            "x": (region.x, region.stop_x),
        }
        pixels = self.array.read([of[axis] for axis in self.axes])
        index = tuple(0 if axis in "tz" else slice(None) for axis in self.axes)
        kept = [axis for axis in self.axes if axis in "cyx"]
        return pixels[index].transpose([kept.index(axis) for axis in "yxc"])


@dataclass(frozen=True)
class _Image:
    """One multiscale image: its levels, and what its metadata say."""

    name: str
    levels: tuple[_Stored, ...]
    units: Mapping[str, str]
    colours: tuple[str, ...]
    not_shown: tuple[str, ...]


class OmeZarrSlide(Slide):
    """One image of OME-Zarr.

    Parameters
    ----------
    path
        The folder.
    image
        What is shown.
    others
        Images of the same folder that are not.
    zero
        Index of the plane that counts as layer 0, or None for the middle or lowest |z|.
    """

    format = "ome-zarr"

    def __init__(
        self, path: Path, image: _Image, others: Sequence[_Image], zero: int | None = None
    ) -> None:
        full = image.levels[0]
        self._closed = False
        described = [level.array.description for level in image.levels]
        self._unchanged = Unchanged(path, described)
        self._levels = [full]
        left_out = []
        for level in image.levels[1:]:
            if level.side("z") != full.side("z"):
                height, width = level.yx
                left_out.append(f"a level of {width} x {height} pixels with other focus layers")
            elif level.yx < self._levels[-1].yx:
                self._levels.append(level)
        super().__init__(
            path,
            planes=_planes(full, _short_units(image).get("z", "")),
            levels=[Level.under(full.yx, level.yx) for level in self._levels],
            zero=zero,
            mpp=_mpp(image),
            icc_profile=_icc_profile(path),
            not_shown=[
                *left_out,
                *image.not_shown,
                *(
                    f"image{f' {other.name!r}' if other.name else ''} of {other.levels[0].yx[1]} x "
                    f"{other.levels[0].yx[0]} pixels"
                    for other in others
                ),
            ],
        )

    def tile_hint(self, level: int) -> tuple[int, int]:
        """Return whole chunks, about 512 pixels or more a side."""
        stored = self._levels[level]
        height, width = (
            side * -(-512 // side)
            for side in (stored.array.chunk[stored.axes.index(axis)] for axis in "yx")
        )
        return min(height, 2048), min(width, 2048)

    def close(self) -> None:
        """Read no more; no file is held open."""
        self._closed = True

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        if self._closed:
            raise SlideError(f"{self.path.name} is closed; open it again.")
        with told(self.path):
            stored = self._levels[level]
            self._unchanged.check(stored.array.description)  # a chunk may be missing, this not
            return over(stored.read(plane.index, region), self.background)


def _planes(stored: _Stored, unit: str) -> list[FocalPlane]:
    """Return the planes; a step that is not positive says nothing about their heights."""
    count = stored.side("z")
    if "z" not in stored.axes or unit == "":
        return [FocalPlane(i, f"Plane {i + 1}") for i in range(count)]
    axis = stored.axes.index("z")
    step = micrometres(stored.scale[axis], unit)
    start = micrometres(stored.translation[axis], unit)
    if step is None or start is None or step <= 0:
        return [FocalPlane(i, f"Plane {i + 1}") for i in range(count)]
    return [FocalPlane(i, f"Plane {i + 1}", start + i * step) for i in range(count)]


def _size(stored: _Stored, axis: str, units: Mapping[str, str]) -> float | None:
    return micrometres(stored.scale[stored.axes.index(axis)], units.get(axis, ""))


def _image_folders(path: Path) -> list[Path]:
    """Return the folder itself, or the numbered ones that bioformats2raw makes."""
    about = attributes(path)
    about = about.get("ome", about)
    if "plate" in about or "well" in about:
        raise UnsupportedSlideError(
            f"{path.name} is a plate of many wells; open the folder of one image in it."
        )
    if "bioformats2raw.layout" not in about:
        return [path]
    return sorted((f for f in path.iterdir() if f.is_dir() and f.name.isdecimal()), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name)


def _images(path: Path, folder: Path) -> list[_Image]:
    about = attributes(folder)
    about = about.get("ome", about)
    colours = tuple(
        str(channel.get("color", "")).upper()[:6]
        for channel in about.get("omero", {}).get("channels", ())
    )
    labels = ("label images",) if (folder / "labels").is_dir() else ()
    return [
        _image(path, folder, scales, colours, labels) for scales in about.get("multiscales", ())
    ]


def _image(
    path: Path,
    folder: Path,
    scales: Mapping[str, Any],
    colours: tuple[str, ...],
    labels: tuple[str, ...],
) -> _Image:
    axes = scales["axes"]
    names = [axis["name"] if isinstance(axis, dict) else str(axis) for axis in axes]
    if len(set(names)) != len(names) or not {"y", "x"} <= set(names) <= set("tczyx"):
        raise damaged(path, f"its axes are {names}")
    units = {axis["name"]: str(axis.get("unit", "")) for axis in axes if isinstance(axis, dict)}
    datasets = scales["datasets"]
    if not 0 < len(datasets) <= _MAX_LEVELS:
        raise damaged(path, f"it claims {len(datasets)} levels")
    levels = tuple(_stored(path, folder, dataset, scales, "".join(names)) for dataset in datasets)
    levels = tuple(sorted(levels, key=lambda level: level.yx, reverse=True))
    times = levels[0].side("t")
    unseen = (f"{times - 1} of {times} time points",) if times > 1 else ()
    return _Image(str(scales.get("name", "")), levels, units, colours, unseen + labels)


def _stored(
    path: Path, folder: Path, dataset: Mapping[str, Any], scales: Mapping[str, Any], axes: str
) -> _Stored:
    place = (folder / str(dataset["path"])).resolve()
    if not place.is_relative_to(path.resolve()):
        raise SlideError(
            f"{path.name} refers to a folder outside itself, {dataset['path']}; it is not followed."
        )
    array = open_array(path, place)
    if len(array.shape) != len(axes):
        raise damaged(path, f"an array of {len(array.shape)} axes is said to have {len(axes)}")
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    for step in (dataset, scales):
        for change in step.get("coordinateTransformations", ()):
            kind, values = change.get("type"), change.get(change.get("type"), ())
            if kind in ("scale", "translation") and len(values) != len(axes):
                raise damaged(path, f"a {kind} of {len(values)} axes is given for {len(axes)}")
            if kind == "scale":
                scale, translation = scale * values, translation * values
            elif kind == "translation":
                translation = translation + values
    stored = _Stored(array, axes, tuple(scale.tolist()), tuple(translation.tolist()))
    _check_sides(path, stored)
    return stored


def _check_sides(path: Path, stored: _Stored) -> None:
    if max(stored.yx) > MAX_SIDE or stored.side("z") > _MAX_PLANES:
        height, width = stored.yx
        raise damaged(
            path, f"it claims {width} x {height} pixels and {stored.side('z')} focus layers"
        )


def _check_colour(path: Path, image: _Image) -> None:
    """Refuse what is not red, green, blue: three channels of other colours are fluorescence."""
    channels = image.levels[0].side("c")
    if image.levels[0].array.dtype != np.uint8:
        raise not_rgb(path.name, f"{image.levels[0].array.dtype} values")
    if channels not in (3, 4):
        raise not_rgb(path.name, "a grey image" if channels == 1 else f"{channels} channels")
    if image.colours and image.colours[:3] != _RED_GREEN_BLUE:
        raise not_rgb(path.name, f"{channels} channels of the colours {', '.join(image.colours)}")
