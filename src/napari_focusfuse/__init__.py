"""All-in-focus images from one or three focus layers of cytology slides."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fusion import Fusion, fuse, fuse_stack, register_stack
    from .readers import open_slide
    from .registered_slide import registered
    from .slide import FocalPlane, FocusFuseError, Level, Region, Slide
    from .whole_slide import fuse_slide, slide_job
    from .writer import read_provenance, write_image

__version__ = version("napari-focusfuse")

# Imported on first use: opening a window must not wait for what it may never need.
_HOMES = {
    "FocalPlane": "slide",
    "FocusFuseError": "slide",
    "Fusion": "fusion",
    "Level": "slide",
    "Region": "slide",
    "Slide": "slide",
    "fuse": "fusion",
    "fuse_stack": "fusion",
    "fuse_slide": "whole_slide",
    "open_slide": "readers",
    "register_stack": "fusion",
    "registered": "registered_slide",
    "read_provenance": "writer",
    "slide_job": "whole_slide",
    "write_image": "writer",
}

__all__ = [
    "FocalPlane",
    "FocusFuseError",
    "Fusion",
    "Level",
    "Region",
    "Slide",
    "__version__",
    "fuse",
    "fuse_slide",
    "fuse_stack",
    "open_slide",
    "read_provenance",
    "register_stack",
    "registered",
    "slide_job",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
