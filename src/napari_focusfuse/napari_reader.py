"""The viewer's door to slides: drag and drop, File > Open, ``napari slide.ome.tif``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .layer_metadata import LayerData, slide_layers
from .readers import is_slide_folder, open_slide
from .slide import Slide, UnsupportedSlideError

ReadSlides = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> ReadSlides | None:
    """Return the function that opens a path, or None for a folder that is no slide.

    Runs on the window's thread, so it reads no pixel: for a folder the headers of two images, for
    a file nothing, because the manifest has already matched its name.
    """
    paths = [path] if isinstance(path, str) else path
    return read_slides if all(_may_be_slide(Path(p)) for p in paths) else None


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """Open one or more slides, or results of ours, and return their layers; no pixel is read here.

    Raises
    ------
    SlideError
        In one sentence, which the viewer shows.
    """
    paths = [path] if isinstance(path, str) else path
    return [layer for p in paths for layer in _layers(Path(p))]


def _layers(path: Path) -> list[LayerData]:
    """Return the layers of a slide, of a picture we fused from one, or of a map we made of one."""
    from .map_layers import map_layers, result_layers
    from .readers.pixel_map import open_map

    try:
        slide = open_slide(path)
    except UnsupportedSlideError:
        provenance = _provenance(path)
        if provenance is None:
            raise
        return map_layers(open_map(path), provenance)
    provenance = _provenance(path) if _may_be_ours(slide) else None
    return slide_layers(slide) if provenance is None else result_layers(slide, provenance)


def _may_be_ours(slide: Slide) -> bool:
    return len(slide.planes) == 1 and slide.format in ("tiff", "ome-zarr")


def _provenance(path: Path) -> dict[str, Any] | None:
    from .writer import read_provenance

    try:
        return read_provenance(path)
    except (OSError, ValueError):
        return None


def _may_be_slide(path: Path) -> bool:
    return is_slide_folder(path) or _provenance(path) is not None if path.is_dir() else True
