"""Write an image with its scale and its provenance: pyramidal OME-TIFF, OME-Zarr, or PNG.

:func:`write_image` takes an image that is in memory, :func:`write_pyramid` tiles that were encoded
elsewhere, in any order and on any machine; the files are the same.  :class:`OmeZarr` takes blocks.
"""

from __future__ import annotations

from .codec import encode_tile
from .image import write_image
from .ome_zarr import OmeZarr
from .output import (
    SUFFIXES,
    OutputError,
    OutputFormatError,
    check_output,
    is_folder,
    replaced,
    sync_folder,
    unwritable,
)
from .provenance import map_provenance, read_provenance
from .pyramid import COMPRESSIONS, TILE, PyramidSpec
from .tiff import write_pyramid

__all__ = [
    "COMPRESSIONS",
    "SUFFIXES",
    "TILE",
    "OmeZarr",
    "OutputError",
    "OutputFormatError",
    "PyramidSpec",
    "check_output",
    "encode_tile",
    "is_folder",
    "map_provenance",
    "read_provenance",
    "replaced",
    "sync_folder",
    "unwritable",
    "write_image",
    "write_pyramid",
]
