"""Opening slides: the reader is chosen by what the file holds, not by its name.

A further format is one more row of :data:`READERS`.  The libraries of a format are imported when
a file of that format is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from napari_focusfuse.slide import Slide, SlideError, UnsupportedSlideError

from .czi import is_czi, open_czi
from .dicom_header import dicom_files, is_dicom
from .faults import told
from .ome_zarr import is_ome_zarr_image, is_zarr, open_ome_zarr
from .probe import probing
from .tiff_header import is_tiff

__all__ = ["READERS", "Reader", "is_slide_folder", "open_slide"]


class Reader(NamedTuple):
    """One row of :data:`READERS`."""

    detect: Callable[[Path, bytes], bool]
    """Takes the path and the first bytes of the file, none for a folder."""
    open: Callable[[Path, int | None], Slide]
    """Takes the path and the index of layer 0, or None for the file's own."""


def open_slide(path: str | Path, zero: int | None = None, *, probe: bool | None = None) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path
        A file, or a folder with one image per focal plane.
    zero
        Index of the plane that counts as layer 0, from the lowest; None is the file's own.
    probe
        Whether formats that can end the process are tried in another one first; None is yes,
        unless ``FOCUSFUSE_PROBE=0`` is in the environment.

    Returns
    -------
    Slide
        Close it, or use it as a context manager.

    Raises
    ------
    SlideError
        If it does not exist, is damaged, or no reader supports it (UnsupportedSlideError).
    PlaneError
        If there is no plane ``zero``.
    """
    path = Path(path)
    with told(path), probing(probe):
        start = _first_bytes(path)
        for reader in READERS:
            if reader.detect(path, start):
                return reader.open(path, zero)
    hint = " Keep the folder of the same name beside it." if path.suffix.lower() == ".mrxs" else ""
    raise UnsupportedSlideError(
        f"{path.name} is not a slide any reader knows; open an OME-TIFF, NDPI, DICOM or other "
        f"scanner file, or a folder with one image per focus layer.{hint}"
    )


def is_slide_folder(path: Path) -> bool:
    """Tell quickly whether a folder looks like a slide: no pixel is read, and nothing raised."""
    from .folder import holds_planes

    try:
        if is_zarr(path):  # other images of Zarr are left to other readers
            return is_ome_zarr_image(path)
        return _is_dicom(path, b"") or holds_planes(path)
    except OSError:
        return False


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        return b""
    if not path.exists():
        raise SlideError(f"{path} does not exist; check the path.")
    if not path.is_file():
        raise SlideError(f"{path} is not a file; choose a slide or a folder.")
    if path.stat().st_size == 0 and path.suffix.lower() != ".mrxs":  # there the folder counts
        raise SlideError(f"{path.name} is empty; copy or export it again.")
    with path.open("rb") as file:
        return file.read(256)


def _is_folder(path: Path, start: bytes) -> bool:
    return path.is_dir()


def _open_folder(path: Path, zero: int | None) -> Slide:
    from .folder import open_folder

    return open_folder(path, zero)


def _is_dicom(path: Path, start: bytes) -> bool:
    return is_dicom(start) or (path.is_dir() and bool(dicom_files(path)))


def _open_dicom(path: Path, zero: int | None) -> Slide:
    from .dicom import open_dicom

    return open_dicom(path, zero)


def _is_czi(path: Path, start: bytes) -> bool:
    return is_czi(start)


def _is_zarr(path: Path, start: bytes) -> bool:
    return is_zarr(path)


def _is_tiff(path: Path, start: bytes) -> bool:
    return is_tiff(start)


def _open_tiff(path: Path, zero: int | None) -> Slide:
    """Open a stack through tifffile; a scanner's file of one plane, or a strange one, otherwise."""
    from . import openslide
    from .tiff import open_tiff

    scanner = openslide.vendor(path)
    if scanner not in (None, *_STACKS):
        return openslide.open_openslide(path, zero)
    try:
        slide = open_tiff(path, zero)
    except SlideError:
        if scanner is None:
            raise
        return openslide.open_openslide(path, zero)
    if scanner is None or len(slide.planes) > 1:
        return slide
    slide.close()
    return openslide.open_openslide(path, zero)


_STACKS = ("aperio", "hamamatsu")
"""Scanners, as OpenSlide names them, whose focal planes we read ourselves."""


def _is_mrxs(path: Path, start: bytes) -> bool:
    return path.suffix.lower() == ".mrxs" and (path.with_suffix("") / "Slidedat.ini").is_file()


def _open_mrxs(path: Path, zero: int | None) -> Slide:
    from .mrxs import open_mrxs

    return open_mrxs(path, zero)


def _is_openslide(path: Path, start: bytes) -> bool:
    from . import openslide

    return openslide.vendor(path) is not None


def _open_openslide(path: Path, zero: int | None) -> Slide:
    from .openslide import open_openslide

    return open_openslide(path, zero)


READERS: tuple[Reader, ...] = (
    Reader(_is_zarr, open_ome_zarr),
    Reader(_is_dicom, _open_dicom),  # a file may be DICOM and TIFF at once
    Reader(_is_czi, open_czi),
    Reader(_is_folder, _open_folder),
    Reader(_is_tiff, _open_tiff),
    Reader(_is_mrxs, _open_mrxs),
    Reader(_is_openslide, _open_openslide),
)
"""Asked in this order; the first that recognises the file opens it."""
