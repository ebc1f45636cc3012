"""The viewer's door to slides: drag and drop, File > Open, ``napari slide.ome.tif``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .layer_metadata import LayerData, slide_layers
from .readers import is_slide_folder, open_slide

ReadSlides = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> ReadSlides | None:
    """Return the function that opens a path, or None for a folder that is no slide.

    Runs on the window's thread, so it reads no pixel: for a folder the headers of two images, for
    a file nothing, because the manifest has already matched its name.
    """
    paths = [path] if isinstance(path, str) else path
    return read_slides if all(_may_be_slide(Path(p)) for p in paths) else None


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """Open one or more slides and return their layers; no pixel is read here.

    Raises
    ------
    SlideError
        In one sentence, which the viewer shows.
    """
    paths = [path] if isinstance(path, str) else path
    return [layer for p in paths for layer in slide_layers(open_slide(p))]


def _may_be_slide(path: Path) -> bool:
    return is_slide_folder(path) if path.is_dir() else True
