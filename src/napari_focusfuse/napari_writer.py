"""The viewer's door to files: File > Save of a fused image, a blur mask or another map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .layer_metadata import KEY, on_white, pixel_size_um


def write_fused(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer with its scale and provenance.

    Parameters
    ----------
    path
        Ends in ``.ome.tif``, ``.ome.tiff``, ``.ome.zarr`` or ``.png``; what exists is replaced.
    data
        (Y, X), (Y, X, 3) or (Y, X, 4) uint8 array, or a (Y, X) float32 map; what is not done
        (alpha 0) becomes white.
    attributes
        The layer's, as the viewer hands them to writers.

    Returns
    -------
    The path, in a list.

    Raises
    ------
    OutputError
        If this is no flat 8-bit image, or it cannot be written there.
    """
    from .writer import OutputError, map_provenance, write_image

    if attributes.get("multiscale") or np.ndim(data) != (3 if attributes.get("rgb") else 2):
        raise OutputError(
            f"{attributes.get('name', 'The layer')} is no flat image; save the fused layer, or a "
            "blur mask."
        )
    noted = attributes.get("metadata", {}).get(KEY, {})
    provenance = noted.get("provenance", {})
    shown = "mask" if noted.get("kind") == "blur mask" else noted.get("map")
    units = attributes.get("units")
    write_image(
        Path(path),
        on_white(np.asarray(data)),
        mpp=None if units is None else pixel_size_um(attributes["scale"], units),
        provenance=provenance if shown is None else map_provenance(provenance, shown),
        overwrite=True,
    )
    return [path]
