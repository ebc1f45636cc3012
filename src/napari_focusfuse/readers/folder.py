"""Folders with one image per focal plane; natural order of their names is increasing z."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from napari_focusfuse.slide import FocalPlane, Level, Region, Slide, SlideError, UInt8Image

from .alpha import over
from .decoded import DecodedPlanes
from .faults import damaged, not_rgb, told
from .resolution import plausible_pixel_size
from .segments import check_scans
from .tiff_header import check_tiff, is_tiff
from .unchanged import Unchanged

if TYPE_CHECKING:
    from PIL import Image

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
SUFFIXES = PICTURE_SUFFIXES | {".tif", ".tiff"}
_COLOUR_MODES = ("RGB", "RGBA", "P")


@dataclass(frozen=True)
class _Header:
    """What an image file says about itself."""

    path: Path
    height: int
    width: int
    mpp: tuple[float, float] | None


def open_folder(path: Path, zero: int | None = None) -> FolderSlide:
    """Open a folder of at least two RGB images of equal size.

    Raises
    ------
    SlideError
        If it holds fewer images, or images that differ in size or are no 8-bit RGB.
    """
    with told(path):
        files = plane_files(path)
    if len(files) < 2:
        found = "no image" if not files else f"only one image, {files[0].name}"
        raise SlideError(
            f"The folder {path} holds {found}; a slide needs at least two, one per focus layer."
        )
    headers = [_read_header(file) for file in files]
    first = headers[0]
    for other in headers[1:]:
        if (other.height, other.width) != (first.height, first.width):
            raise SlideError(
                f"The images in {path} differ in size: {first.path.name} has {first.width} x "
                f"{first.height} pixels, {other.path.name} {other.width} x {other.height}; keep "
                "only the focus layers of one field in the folder."
            )
    return FolderSlide(path, headers, zero)


def open_picture(path: Path) -> FolderSlide:
    """Open one image file as a slide of one plane, such as a reference to compare with.

    Raises
    ------
    SlideError
        If it is no 8-bit RGB image, or damaged.
    """
    return FolderSlide(path, [_read_header(path)], None)


def holds_planes(path: Path) -> bool:
    """Tell quickly whether a folder looks like focal planes: its first two images match in size.

    Reads two headers and no pixel; never raises on what it finds in the folder.
    """
    try:
        shapes = [_shape(file) for file in plane_files(path)[:2]]
    except OSError:
        return False
    return len(shapes) == 2 and shapes[0] == shapes[1]


def _shape(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image without the libraries that could decode it."""
    with told(path), path.open("rb") as file:
        if is_tiff(file.read(4)):
            return check_tiff(path).shape
        file.seek(0)
        with _image(path, file) as image:
            return image.height, image.width


def plane_files(path: Path) -> list[Path]:
    """Return the image files of a folder in natural order: plane_2 comes before plane_10."""
    images = (
        file
        for file in path.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    return sorted(images, key=_natural)


def _natural(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Compare runs of digits as numbers, signs before them included, and the rest as text."""
    parts = re.findall(r"(?<![0-9A-Za-z])-?\d+|\d+|\D", file.stem.casefold())
    keys = [(0, int(part), "") if part.lstrip("-").isdecimal() else (1, 0, part) for part in parts]
    return keys, file.name


class FolderSlide(Slide):
    """One image file per focal plane.

    JPEG and PNG can only be decoded whole, so decoded planes are kept while memory allows.
    """

    format = "folder"

    def __init__(self, path: Path, headers: list[_Header], zero: int | None = None) -> None:
        self._headers = headers
        self._unchanged = Unchanged(path, [header.path for header in headers])
        self._decoded = DecodedPlanes()
        scales = {header.mpp for header in headers}
        first = headers[0]
        super().__init__(
            path,
            planes=[FocalPlane(i, header.path.stem) for i, header in enumerate(headers)],
            levels=[Level(first.width, first.height)],
            zero=zero,
            mpp=first.mpp if len(scales) == 1 else None,
            warnings=["The images differ in pixel size, so none is used."] * (len(scales) > 1),
        )

    def close(self) -> None:
        """Forget the decoded planes; no file is held open."""
        self._decoded.clear()

    def _read(self, plane: FocalPlane, level: int, region: Region) -> UInt8Image:
        header = self._headers[plane.index]
        self._unchanged.check(header.path)
        whole = self._decoded.get(plane.index, lambda: _decode(header))
        part = whole[region.y : region.stop_y, region.x : region.stop_x]
        return over(part, self.background)


def _read_header(path: Path) -> _Header:
    with told(path), path.open("rb") as file:
        start = file.read(32)
        if is_tiff(start):
            return _tiff_header(path)
        file.seek(0)
        with _image(path, file) as image:
            deep = image.format == "PNG" and start[24] == 16  # Pillow would cut 16 bits to 8
            if image.mode not in _COLOUR_MODES or deep:
                raise not_rgb(path.name, "16-bit values" if deep else f"{image.mode} values")
            x_dpi, y_dpi = image.info.get("dpi", (0, 0))
            sides = [25400 / float(dpi) if dpi else None for dpi in (y_dpi, x_dpi)]
            return _Header(path, image.height, image.width, plausible_pixel_size(*sides))


def _image(path: Path, file: BinaryIO) -> Image.Image:
    """Open an image with Pillow, which reads its size and refuses what is too large."""
    from PIL import Image

    try:
        return Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SlideError(
            f"{path.name} is too large to be decoded whole; store it as a tiled OME-TIFF."
        ) from error


def _tiff_header(path: Path) -> _Header:
    from .tiff import open_tiff

    with open_tiff(path) as slide:
        if len(slide.planes) > 1:
            raise SlideError(
                f"{path.name} holds {len(slide.planes)} focus layers by itself; open that file "
                "instead of its folder."
            )
        return _Header(path, *slide.levels[0].shape, slide.mpp)


def _decode(header: _Header) -> UInt8Image:
    """Decode a plane after checking that the file still is what its header said."""
    path = header.path
    with told(path), path.open("rb") as file, ExitStack() as stack:
        start = file.read(4)
        if is_tiff(start):
            from .tiff import open_tiff

            slide = stack.enter_context(open_tiff(path))
            if slide.levels[0].shape != (header.height, header.width):
                raise damaged(path, "it changed while it was open")
            return slide.read_region(slide.planes[0], 0, 0, 0, header.height, header.width)
        file.seek(0)
        if start.startswith(b"\xff\xd8"):
            check_scans(file.read())
            file.seek(0)
        image = stack.enter_context(_image(path, file))
        if (image.height, image.width) != (header.height, header.width):
            raise damaged(path, "it changed while it was open")
        alpha = image.mode == "RGBA" or (image.mode == "P" and "transparency" in image.info)
        return np.asarray(image.convert("RGBA" if alpha else "RGB"))
