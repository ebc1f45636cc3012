"""Write an image with its scale and its provenance: pyramidal OME-TIFF, or PNG.

The TIFF holds its pyramid twice over the same pixels: as SubIFDs, where OME-TIFF readers look, and
in the chain of main directories, where OpenSlide looks.  Its JPEG tiles are YCbCr 4:2:0 and tagged
so, the one form that OpenSlide, Bio-Formats and tifffile all read with the right colours.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_focusfuse.pixels import halve
from napari_focusfuse.slide import FocusFuseError, UInt8Image

SUFFIXES = (".ome.tif", ".ome.tiff", ".png")
COMPRESSIONS = ("jpeg", "zstd", "deflate")
TILE = 512
JPEG_QUALITY = 90

_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_NAMESPACE = "napari-focusfuse/provenance"
_KEYWORD = "napari-focusfuse provenance"
_SUBIFDS = 330


class OutputError(FocusFuseError, OSError):
    """An image cannot be written, or not there."""

    exit_code = 5


class OutputFormatError(OutputError):
    """The name of the output, or the compression, is none we know."""

    exit_code = 1


def write_image(
    path: str | Path,
    image: UInt8Image,
    *,
    mpp: tuple[float, float] | None,
    provenance: Mapping[str, Any],
    compression: str = "jpeg",
    overwrite: bool = False,
) -> None:
    """Write an image; a file of that name is replaced whole or not at all.

    Parameters
    ----------
    path
        Ends in ``.ome.tif``, ``.ome.tiff`` or ``.png``.
    image
        (Y, X, 3) uint8 RGB, or (Y, X) uint8 grey.
    mpp
        (y, x) micrometres per pixel, or None if unknown: then the file carries no scale.
    provenance
        Where the image comes from, JSON; :func:`read_provenance` gives it back.
    compression
        Of a TIFF: ``"jpeg"`` (quality 90), or without loss ``"zstd"`` or ``"deflate"``.  Grey
        images are masks, hence data: they are never stored as JPEG, but with deflate.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    OutputError
        If the image is not 8-bit RGB or grey, or the file cannot be written.
    OutputFormatError
        If the suffix or the compression is unknown.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    if compression not in COMPRESSIONS:
        raise OutputFormatError(
            f"There is no compression {compression!r}; choose {', '.join(COMPRESSIONS)}."
        )
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise OutputError(
            f"{path.name} cannot hold {image.dtype} values of shape {image.shape}; give an 8-bit "
            "image, grey or RGB."
        )
    about = json.dumps(dict(provenance), allow_nan=False, sort_keys=True)
    if path.suffix.lower() == ".png":
        _replace(path, lambda partial: _write_png(partial, image, mpp, about))
    else:
        name = path.name.partition(".ome.")[0]
        codec = "deflate" if image.ndim == 2 and compression == "jpeg" else compression
        _replace(path, lambda partial: _write_tiff(partial, image, mpp, about, name, codec))


def check_output(path: str | Path, *, overwrite: bool = False) -> None:
    """Check, before hours of work, that a file can be written there.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, or the file exists and must not be replaced.
    OutputFormatError
        If the suffix is unknown.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise OutputFormatError(
            f"{path.name} has no suffix that can be written; choose {', '.join(SUFFIXES)}."
        )
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; make it, or choose another.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; choose the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; choose another name, or --overwrite.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """Return the provenance in a file written by :func:`write_image`, or None if it has none.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_png = file.read(8) == b"\x89PNG\r\n\x1a\n"
    text = _png_provenance(path) if is_png else _tiff_provenance(path)
    try:
        about = None if text is None else json.loads(text)
    except ValueError:
        return None
    return about if isinstance(about, dict) else None


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, then rename: nobody ever sees half an image."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(f"{path} cannot be written ({reason}); choose another folder, or make room.")


def _write_png(path: Path, image: UInt8Image, mpp: tuple[float, float] | None, about: str) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(_KEYWORD, about)
    # PNG counts pixels per metre, Pillow per inch.
    scale = {} if mpp is None else {"dpi": (25400 / mpp[1], 25400 / mpp[0])}
    Image.fromarray(image).save(path, format="PNG", pnginfo=info, **scale)


def _png_provenance(path: Path) -> str | None:
    """Walk the chunks before the pixels; nothing is decoded, so no size need be trusted."""
    with path.open("rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"IDAT":
                return None
            if kind != b"iTXt":
                file.seek(length + 4, os.SEEK_CUR)
                continue
            keyword, _, rest = file.read(length).partition(b"\0")
            if keyword == _KEYWORD.encode() and rest[:1] == b"\0":
                # Compression flag and method, then language and translated keyword.
                return rest[2:].split(b"\0", 2)[2].decode("utf-8", "replace")
            file.seek(4, os.SEEK_CUR)
    return None


@dataclass(frozen=True)
class _Encoding:
    """How tifffile is to store the tiles."""

    compression: str
    options: dict[str, Any]


_ENCODINGS = {
    # photometric "rgb" is what tifffile is given; it converts to YCbCr 4:2:0 and tags it so.
    "jpeg": _Encoding("jpeg", {"compressionargs": {"level": JPEG_QUALITY}}),
    "zstd": _Encoding("zstd", {"predictor": True}),
    "deflate": _Encoding("zlib", {"predictor": True}),
}


def _write_tiff(
    path: Path,
    image: UInt8Image,
    mpp: tuple[float, float] | None,
    about: str,
    name: str,
    compression: str,
) -> None:
    from tifffile import TiffWriter

    encoding = _ENCODINGS[compression]
    levels = _level_count(image.shape[:2])
    with TiffWriter(path, bigtiff=True) as file:
        for level in range(levels):
            if level:
                image = halve(image)
            first = {"description": _ome_xml(image, mpp, about, name), "subifds": levels - 1}
            file.write(
                _tiles(image),
                shape=image.shape,
                dtype=image.dtype,
                tile=(TILE, TILE),
                photometric="rgb" if image.ndim == 3 else "minisblack",
                compression=encoding.compression,
                **encoding.options,
                **(first if level == 0 else {"subfiletype": 1}),
                **_resolution(mpp, level),
                metadata=None,
                software=f"napari-focusfuse {version('napari-focusfuse')}",
            )
    _chain(path)


def _level_count(shape: tuple[int, ...]) -> int:
    """Return how many levels it takes until one tile holds the coarsest."""
    height, width = shape
    count = 1
    while max(height, width) > TILE and min(height, width) > 1:
        height, width, count = height // 2, width // 2, count + 1
    return count


def _tiles(image: UInt8Image) -> Iterator[UInt8Image]:
    """Yield the tiles by rows; the last ones repeat the edge, which JPEG would smear with black."""
    for y in range(0, image.shape[0], TILE):
        for x in range(0, image.shape[1], TILE):
            tile = image[y : y + TILE, x : x + TILE]
            missing = [(0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)]
            yield np.pad(tile, missing[: image.ndim], mode="edge")


def _resolution(mpp: tuple[float, float] | None, level: int) -> dict[str, Any]:
    if mpp is None:
        return {}
    per_cm = [1e4 / (size * 2**level) for size in mpp]
    return {"resolution": (per_cm[1], per_cm[0]), "resolutionunit": "CENTIMETER"}


def _ome_xml(image: UInt8Image, mpp: tuple[float, float] | None, about: str, name: str) -> bytes:
    """Return OME-XML of our own: tifffile's holds a random identifier, so files would differ."""
    ElementTree.register_namespace("", _OME)
    samples = 1 if image.ndim == 2 else image.shape[2]
    pixels = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYCZT",
        "Type": "uint8",
        "SizeX": str(image.shape[1]),
        "SizeY": str(image.shape[0]),
        "SizeC": str(samples),
        "SizeZ": "1",
        "SizeT": "1",
        "Interleaved": "true",
    }
    for axis, size in zip("YX", mpp or (), strict=False):
        pixels |= {f"PhysicalSize{axis}": repr(float(size)), f"PhysicalSize{axis}Unit": "µm"}
    root = ElementTree.Element(f"{{{_OME}}}OME")

    def add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
        return ElementTree.SubElement(parent, f"{{{_OME}}}{tag}", attributes)

    node = add(root, "Image", ID="Image:0", Name=name)
    data = add(node, "Pixels", **pixels)
    add(data, "Channel", ID="Channel:0:0", SamplesPerPixel=str(samples))
    add(data, "TiffData", IFD="0", PlaneCount="1")
    add(node, "AnnotationRef", ID="Annotation:0")
    annotations = add(root, "StructuredAnnotations")
    note = add(annotations, "CommentAnnotation", ID="Annotation:0", Namespace=_NAMESPACE)
    add(note, "Value").text = about
    # ASCII: the micro sign becomes a character reference, as TIFF's text tags are 7-bit.
    xml: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return xml


def _tiff_provenance(path: Path) -> str | None:
    from tifffile import TiffFile, TiffFileError

    try:
        with TiffFile(path) as file:
            xml = file.ome_metadata
        root = None if xml is None else ElementTree.fromstring(xml)
    except (TiffFileError, ElementTree.ParseError):
        return None
    if root is None:
        return None
    for note in root.iter(f"{{{_OME}}}CommentAnnotation"):
        if note.get("Namespace") == _NAMESPACE:
            return note.findtext(f"{{{_OME}}}Value")
    return None


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
