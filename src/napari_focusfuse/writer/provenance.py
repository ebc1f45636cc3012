"""Read back where an image we wrote comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .ome_xml import provenance_in
from .ome_zarr import zarr_provenance
from .png import SIGNATURE, png_provenance


def map_provenance(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the provenance of one of a fusion's maps, which says which of its ``maps`` it is."""
    return {**provenance, "map": name}


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """Return the provenance in a file written by :func:`write_image`, or None if it has none.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return zarr_provenance(path)
    with path.open("rb") as file:
        is_png = file.read(len(SIGNATURE)) == SIGNATURE
    text = png_provenance(path) if is_png else _tiff_provenance(path)
    try:
        about = None if text is None else json.loads(text)
    except ValueError:
        return None
    return about if isinstance(about, dict) else None


def _tiff_provenance(path: Path) -> str | None:
    from tifffile import TiffFile, TiffFileError

    try:
        with TiffFile(path) as file:
            xml = file.ome_metadata
    except TiffFileError:
        return None
    return None if xml is None else provenance_in(xml)
