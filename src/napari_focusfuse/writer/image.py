"""Write an image that is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_focusfuse.pixels import halve
from napari_focusfuse.slide import Region, UInt8Image

from .codec import encode_tile
from .ome_zarr import OmeZarr
from .output import OutputError, OutputFormatError, check_output, is_folder, replaced
from .png import write_png
from .pyramid import COMPRESSIONS, PyramidSpec
from .tiff import write_pyramid


def write_image(
    path: str | Path,
    image: UInt8Image | npt.NDArray[np.float32],
    *,
    mpp: tuple[float, float] | None,
    provenance: Mapping[str, Any],
    compression: str = "jpeg",
    overwrite: bool = False,
    icc: bytes | None = None,
) -> None:
    """Write an image; a file of that name is replaced whole or not at all.

    Parameters
    ----------
    path
        Ends in ``.ome.tif``, ``.ome.tiff``, ``.ome.zarr`` or ``.png``.
    image
        (Y, X, 3) uint8 RGB, or (Y, X) uint8 grey; but for PNG also a (Y, X) float32 map.
    mpp
        (y, x) micrometres per pixel, or None if unknown: then the file carries no scale.
    provenance
        Where the image comes from, JSON; :func:`read_provenance` gives it back.
    compression
        Of a TIFF: ``"jpeg"`` (quality 90), or without loss ``"zstd"`` or ``"deflate"``.  Masks and
        maps are data: they are never stored as JPEG, but with deflate.  OME-Zarr is always without
        loss.
    overwrite
        Whether to replace an existing file.
    icc
        Colour profile of the source.

    Raises
    ------
    OutputError
        If the image is none of these, or the file cannot be written.
    OutputFormatError
        If the suffix or the compression is unknown.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    if compression not in COMPRESSIONS:
        raise OutputFormatError(
            f"There is no compression {compression!r}; choose {', '.join(COMPRESSIONS)}."
        )
    is_png = path.suffix.lower() == ".png"
    _check_pixels(path.name, image, may_be_float=not is_png)
    if is_png:
        about = json.dumps(dict(provenance), allow_nan=False, sort_keys=True)
        with replaced(path) as partial:
            write_png(partial, image.astype(np.uint8, copy=False), mpp, about, icc)
        return
    spec = image_spec(image, compression)
    write = _write_folder if is_folder(path) else _write_file
    name = path.name.partition(".ome.")[0]
    write(path, spec, _levels(image, spec), mpp=mpp, provenance=provenance, name=name, icc=icc)


def image_spec(image: npt.NDArray[Any], compression: str) -> PyramidSpec:
    """Return the pyramid of an image; of a mask or map it is deflated where JPEG was asked for."""
    height, width = image.shape[:2]
    if image.ndim == 3:
        return PyramidSpec(height, width, 3, compression=compression)
    lossless = "deflate" if compression == "jpeg" else compression
    dtype: Literal["uint8", "float32"] = "float32" if image.dtype == np.float32 else "uint8"
    return PyramidSpec(height, width, 1, dtype, compression=lossless)


def _levels(image: npt.NDArray[Any], spec: PyramidSpec) -> list[npt.NDArray[Any]]:
    levels = [image]
    for _ in spec.levels[1:]:
        levels.append(halve(levels[-1]))
    return levels


def _write_file(
    path: Path, spec: PyramidSpec, levels: Sequence[npt.NDArray[Any]], **about: Any
) -> None:
    def tiles(level: int) -> Iterator[bytes]:
        for part in spec.regions(level):
            yield encode_tile(_part(levels[level], part), spec)

    write_pyramid(path, spec, tiles, **about)


def _write_folder(
    path: Path, spec: PyramidSpec, levels: Sequence[npt.NDArray[Any]], **about: Any
) -> None:
    output = OmeZarr(path, spec)
    try:
        output.create(**about)
        for level, pixels in enumerate(levels):
            for part in output.regions(level):
                output.write(level, part, _part(pixels, part))
        output.finish()
    finally:
        output.discard()


def _part(pixels: npt.NDArray[Any], part: Region) -> npt.NDArray[Any]:
    return pixels[part.y : part.stop_y, part.x : part.stop_x]


def _check_pixels(name: str, image: npt.NDArray[Any], may_be_float: bool) -> None:
    picture = image.dtype == np.uint8 and image.ndim in (2, 3) and image.shape[2:] in ((), (3,))
    if picture or (may_be_float and image.dtype == np.float32 and image.ndim == 2):
        return
    also = ", or a float32 map" if may_be_float else ""
    raise OutputError(
        f"{name} cannot hold {image.dtype} values of shape {image.shape}; give an 8-bit "
        f"image, grey or RGB{also}."
    )
