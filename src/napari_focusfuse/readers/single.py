"""One image from a file: a picture, a slide of one plane, or a slide's extended focus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_focusfuse.slide import FocalPlane, Slide, SlideError, UInt8Image

from . import open_slide
from .folder import PICTURE_SUFFIXES, open_picture


@contextmanager
def open_single(path: Path) -> Iterator[tuple[Slide, FocalPlane]]:
    """Open the slide and the plane that a comparison can mean by a file.

    Raises
    ------
    SlideError
        If it cannot be read, or is a stack without extended focus.
    """
    is_picture = path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES
    with open_picture(path) if is_picture else open_slide(path) as slide:
        plane = slide.extended or (slide.planes[0] if len(slide.planes) == 1 else None)
        if plane is None:
            raise SlideError(
                f"{path.name} has {len(slide.planes)} focus layers and no extended focus, so it is "
                "not one image; fuse it first, or choose one of its layers."
            )
        yield slide, plane


def read_single(path: Path) -> tuple[UInt8Image, tuple[float, float] | None]:
    """Read the one image that a comparison can mean by a file.

    Returns
    -------
    (Y, X, 3) uint8 array, and its (y, x) micrometres per pixel or None

    Raises
    ------
    SlideError
        If it cannot be read, or is a stack without extended focus.
    """
    with open_single(path) as (slide, plane):
        height, width = slide.levels[0].shape
        return slide.read_region(plane, 0, 0, 0, height, width), slide.mpp
