"""A look at DICOM files before any library acts on what they claim, and which belong together."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_focusfuse.slide import MAX_SIDE, SlideError, UnsupportedSlideError

from .faults import damaged, not_rgb, told
from .folder import SUFFIXES as IMAGE_SUFFIXES
from .resolution import micrometres
from .segments import jpeg_size, picture_size
from .tiff_header import MAX_TILE_SIDE

MAX_PLANES = 1000
_MAX_TILES = 1 << 22
_MAX_FILES = 4096
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_JPEG_2000 = (*(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)),)
_JPEG = (*(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81)),)
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_RUN_LENGTHS = "1.2.840.10008.1.2.5"
MEASURES: dict[str, Callable[[bytes], tuple[int, int] | None] | None] = {
    **dict.fromkeys((*_NATIVE, _RUN_LENGTHS)),  # decoded into a buffer of the declared size
    **dict.fromkeys(_JPEG, jpeg_size),
    **dict.fromkeys(_JPEG_2000, picture_size),
}
"""How the size that a frame itself claims is found, by transfer syntax (PS3.5, section 10).

What is not in this table is refused: a deflated file can grow without bound.
"""
_PER_FRAME = 0x52009230
_TAGS = (
    *("ImageType", "SOPClassUID", "SeriesInstanceUID", "SamplesPerPixel", "NumberOfFrames"),
    *("Rows", "Columns", "BitsStored", "TotalPixelMatrixColumns", "TotalPixelMatrixRows"),
    *("OpticalPathSequence", "NumberOfOpticalPaths", "TotalPixelMatrixFocalPlanes"),
    *("DimensionOrganizationType", "ConcatenationUID"),
)


class ClampedFile(io.BufferedReader):
    """A file never asked for more bytes than it has: memory for a request is taken first."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes."""
        left = max(0, self._length - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@dataclass(frozen=True)
class DicomHeader:
    """What one file says about itself."""

    path: Path
    series: str
    """Identifier that all files of a slide share."""
    flavour: str
    """``VOLUME``, ``LABEL``, ``OVERVIEW`` or ``THUMBNAIL``."""
    shape: tuple[int, int]
    """(height, width) of the whole image in pixels."""
    objective: float | None
    counts_all_planes: bool
    """Whether it holds one plane and names the count of planes of all files."""
    icc_profile: bytes | None = None
    """Of the first optical path."""


@dataclass(frozen=True)
class Series:
    """The files of one slide."""

    headers: tuple[DicomHeader, ...]
    warnings: tuple[str, ...]
    not_shown: tuple[str, ...]


def is_dicom(start: bytes) -> bool:
    """Tell from its first 132 bytes whether a file is DICOM (PS3.10, section 7.1)."""
    return start[128:132] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files that lie in a folder itself, by name; reads 132 bytes of each."""
    found = []
    for file in sorted(folder.iterdir())[:_MAX_FILES]:
        if file.suffix.lower() in IMAGE_SUFFIXES or not file.is_file():
            continue
        with file.open("rb") as stream:
            if is_dicom(stream.read(132)):
                found.append(file)
    return found


def read_header(path: Path) -> DicomHeader | None:
    """Read what a DICOM file claims, without its frames; None if it is no slide.

    Raises
    ------
    SlideError
        If it is damaged, or of a kind that is not read.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag
    from wsidicom.file.io import WsiDicomReadIO
    from wsidicom.paths import as_upath

    with told(path):
        with ClampedFile(path) as file:
            meta = WsiDicomReadIO(file, as_upath(path)).file_meta_info
        if meta.get("MediaStorageSOPClassUID") != _WHOLE_SLIDE:
            return None
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax not in MEASURES:
            raise not_rgb(path.name, f"pixels stored by transfer syntax {syntax or 'unknown'}")
        with ClampedFile(path) as file:
            dataset = read_partial(
                file,
                stop_when=lambda tag, _, __: tag >= _PER_FRAME,
                specific_tags=[Tag(name) for name in _TAGS],
            )
            header = _header(path, dataset)
            _check(path, dataset, header, syntax, file.seek(0, 2))
        return header


def _header(path: Path, dataset: Any) -> DicomHeader:
    height, width = (int(dataset[f"TotalPixelMatrix{side}"].value) for side in ("Rows", "Columns"))
    paths = list(dataset.get("OpticalPathSequence", None) or ())
    power = micrometres(paths[0].get("ObjectiveLensPower")) if paths else None
    profile = paths[0].get("ICCProfile") if paths else None
    return DicomHeader(
        path,
        str(dataset["SeriesInstanceUID"].value),
        str(dataset["ImageType"].value[2]),
        (height, width),
        power if power and power > 0 else None,
        _counts_all_planes(dataset),
        profile if isinstance(profile, bytes) else None,
    )


def _grid(dataset: Any) -> int:
    """Return how many tiles cover the image once; 0 where a size makes no sense."""
    sides = (
        (int(dataset[f"TotalPixelMatrix{of}"].value), int(dataset[of].value))
        for of in ("Rows", "Columns")
    )
    return math.prod(-(-whole // tile) if tile > 0 else 0 for whole, tile in sides)


def _counts_all_planes(dataset: Any) -> bool:
    """Tell whether the frames are those of one plane, though more are named (wsidicom #190)."""
    named = int(dataset.get("TotalPixelMatrixFocalPlanes", None) or 1)
    paths = int(dataset.get("NumberOfOpticalPaths", None) or 1)
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    whole = dataset.get("DimensionOrganizationType") == "TILED_FULL"
    alone = "ConcatenationUID" not in dataset
    return named > 1 and whole and alone and frames == _grid(dataset) * paths


def _check(path: Path, dataset: Any, header: DicomHeader, syntax: str, size: int) -> None:
    """Compare what a file claims with its size; the tables made of it are as large as it says."""
    if header.flavour == "VOLUME" and (dataset.SamplesPerPixel, dataset.BitsStored) != (3, 8):
        kind = f"{dataset.BitsStored}-bit values" if dataset.BitsStored != 8 else "a grey image"
        raise not_rgb(path.name, kind)
    tile = int(dataset.Rows), int(dataset.Columns)
    for what, sides, limit in (
        ("an image", header.shape, MAX_SIDE),
        ("a tile", tile, MAX_TILE_SIDE),
    ):
        for side in sides:
            if not 0 < side <= limit:
                raise damaged(path, f"it claims {what} side of {side} pixels, 1 to {limit} can be")
    grid = _grid(dataset)
    planes = int(dataset.get("TotalPixelMatrixFocalPlanes", None) or 1)
    paths = int(dataset.get("NumberOfOpticalPaths", None) or 1)
    if not (0 < planes <= MAX_PLANES and 0 < paths <= MAX_PLANES and grid <= _MAX_TILES):
        raise damaged(path, f"it claims {planes} focus layers of {grid} tiles, {paths} times")
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    least = math.prod(tile) * int(dataset.SamplesPerPixel) if syntax in _NATIVE else 8
    if frames <= 0 or frames * least > size:
        raise damaged(path, f"it claims {frames} tiles, for which the file is too short")


def read_series(path: Path) -> Series:
    """Return the files of one slide.

    Parameters
    ----------
    path
        Any one file of the slide, or the folder they lie in; of several slides in a folder the
        largest is taken.

    Raises
    ------
    SlideError
        If there is no whole-slide image, or the file itself is damaged.
    """
    chosen = None if path.is_dir() else read_header(path)
    if chosen is None and not path.is_dir():
        raise UnsupportedSlideError(
            f"{path.name} is a DICOM file but no whole-slide image; open a slide's file or folder."
        )
    headers, faults = [], list[SlideError]()
    for file in dicom_files(path if chosen is None else path.parent):
        try:
            header = chosen if file == path else read_header(file)
        except SlideError as error:
            faults.append(error)
        else:
            headers += [header] if header is not None else []
    volumes = [header for header in headers if header.flavour == "VOLUME"]
    if not volumes:
        raise (
            faults[0]
            if faults
            else UnsupportedSlideError(
                f"{path.name} holds no DICOM whole-slide image; open the folder of a slide."
            )
        )
    series = (chosen or max(volumes, key=lambda header: math.prod(header.shape))).series
    others = {header.series for header in volumes} - {series} if chosen is None else set()
    return Series(
        tuple(header for header in headers if header.series == series),
        tuple(f"A file of the folder is left out: {error}" for error in faults[:3]),
        (f"{len(others)} further slide{'s' * (len(others) > 1)} in the same folder",)
        if others
        else (),
    )
