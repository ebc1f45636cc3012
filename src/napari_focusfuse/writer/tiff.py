"""Pyramidal OME-TIFF from tiles that are already encoded.

The file holds its pyramid twice over the same pixels: as SubIFDs, where OME-TIFF readers look, and
in the chain of main directories, where OpenSlide looks.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .codec import has_predictor
from .ome_xml import ome_xml
from .output import replaced
from .pyramid import PyramidSpec

_SUBIFDS = 330
_COMPRESSION = {"jpeg": "jpeg", "zstd": "zstd", "deflate": "zlib"}
"""tifffile's names."""


def write_pyramid(
    path: str | Path,
    spec: PyramidSpec,
    tiles: Callable[[int], Iterator[bytes]],
    *,
    mpp: tuple[float, float] | None,
    provenance: Mapping[str, Any],
    name: str,
    icc: bytes | None = None,
) -> None:
    """Write a pyramid; a file of that name is replaced whole or not at all.

    The same tiles make the same file, byte for byte: it holds no date and no random identifier.
    Memory does not grow with the pixels: nothing is kept but where each tile lies.

    Parameters
    ----------
    path
        Where to; ends in ``.ome.tif`` or ``.ome.tiff``, or other programs will not know it.
    spec
        Sizes and kind of the pyramid.
    tiles
        Returns the tiles of a level, by rows, as :func:`encode_tile` makes them; called once for
        each level, level 0 first, when the ones before are written.
    mpp
        (y, x) micrometres per pixel, or None if unknown.
    provenance
        Where the image comes from, JSON.
    name
        What a viewer calls the image.
    icc
        Colour profile of the source.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from tifffile import TiffWriter

    about = json.dumps(dict(provenance), allow_nan=False, sort_keys=True)
    levels = spec.levels
    with replaced(Path(path)) as partial:
        with TiffWriter(partial, bigtiff=True) as file:
            for level in range(len(levels)):
                first = {
                    "description": ome_xml(spec, mpp, about, name),
                    "subifds": len(levels) - 1,
                    "iccprofile": icc,
                }
                file.write(
                    tiles(level),
                    shape=spec.shape(level),
                    **_storage(spec),
                    **(first if level == 0 else {"subfiletype": 1}),
                    **_resolution(mpp, level),
                )
        _chain(partial)


def _storage(spec: PyramidSpec) -> dict[str, Any]:
    """Return what tifffile must know of every level."""
    return {
        "dtype": spec.dtype,
        "tile": (spec.tile, spec.tile),
        # Of JPEG tiles tifffile takes "rgb" for what went in; the tag will say YCbCr 4:2:0.
        "photometric": "rgb" if spec.samples == 3 else "minisblack",
        "compression": _COMPRESSION[spec.compression],
        "predictor": has_predictor(spec),
        "metadata": None,
        "software": f"napari-focusfuse {version('napari-focusfuse')}",
    }


def _resolution(mpp: tuple[float, float] | None, level: int) -> dict[str, Any]:
    if mpp is None:
        return {}
    per_cm = [1e4 / (size * 2**level) for size in mpp]
    return {"resolution": (per_cm[1], per_cm[0]), "resolutionunit": "CENTIMETER"}


def _chain(path: Path) -> None:
    """Chain the sub-directories behind the first directory, for readers that know no SubIFDs.

    In a BigTIFF the directory at offset o with n entries ends with the offset of the next one, at
    o + 8 + 20 n (BigTIFF specification).
    """
    from tifffile import TiffFile

    with TiffFile(path) as file:
        page = file.pages.first
        order = file.byteorder
        subs = page.tags.valueof(_SUBIFDS) or ()
        offsets = [page.offset, *subs]
    with path.open("r+b") as raw:
        for here, following in zip(offsets, [*offsets[1:], 0], strict=True):
            raw.seek(here)
            (entries,) = struct.unpack(f"{order}Q", raw.read(8))
            raw.seek(here + 8 + 20 * entries)
            raw.write(struct.pack(f"{order}Q", following))
        raw.flush()
        os.fsync(raw.fileno())
