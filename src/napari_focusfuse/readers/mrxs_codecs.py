"""Tiles of MIRAX slides: what they say of themselves is checked before they are decoded.

The kind is told by the first bytes; ``IMAGE_FORMAT`` only says what the scanner meant to write.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from napari_focusfuse.slide import UInt8Image

from .apart import decode_jpeg_xr
from .segments import jpeg_size

_MOST_PIXELS = 1 << 26

Size = tuple[int, int] | None
"""(height, width), or None where the header makes no sense."""


class Codec(NamedTuple):
    """One way to store a tile."""

    name: str
    magic: bytes
    size: Callable[[bytes], Size]
    decode: Callable[[bytes], Any]


def _png_size(data: bytes) -> Size:
    if data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp_size(data: bytes) -> Size:
    """Only plain 24-bit pictures have a size here."""
    if len(data) < 54:
        return None
    start, _, width, height = struct.unpack_from("<IIii", data, 10)
    bits, compression = struct.unpack_from("<HI", data, 28)
    rows = abs(height)
    whole = width > 0 and start + rows * ((3 * width + 3) // 4 * 4) <= len(data)
    return (rows, width) if whole and (bits, compression) == (24, 0) else None


def _bmp_decode(data: bytes) -> UInt8Image:
    start, _, width, height = struct.unpack_from("<IIii", data, 10)
    rows, stride = abs(height), (3 * width + 3) // 4 * 4
    lines = np.frombuffer(data, np.uint8, rows * stride, start).reshape(rows, stride)
    image = lines[:, : 3 * width].reshape(rows, width, 3)[..., ::-1]
    return np.ascontiguousarray(image if height < 0 else image[::-1])


def _jpeg_2000_size(data: bytes) -> Size:
    """Find the codestream among the boxes of a JP2 file, and its size marker (ITU T.800, A.5.1)."""
    at = 0
    for _ in range(64):
        if data[at : at + 4] == b"\xff\x4f\xff\x51" or at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"jp2c":
            at += 16 if length == 1 else 8
        elif length < 8:
            return None
        else:
            at += length
    if data[at : at + 4] != b"\xff\x4f\xff\x51" or at + 42 > len(data):
        return None
    right, bottom, left, top, _, _, _, _, colours = struct.unpack_from(">8IH", data, at + 8)
    return (bottom - top, right - left) if colours <= 4 else None


def _jpeg_xr_size(data: bytes) -> Size:
    """Compare the directory (ITU T.832, annex A) with the codestream, which must agree."""
    tags = {}
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(min(count, 64)):
        tag, kind, _, value = struct.unpack_from("<HHII", data, start + 2 + 12 * entry)
        tags[tag] = value & 0xFFFF if kind == 3 else value
    stream = tags.get(0xBCC0, 0)
    if data[stream : stream + 8] != b"WMPHOTO\0":
        return None
    short = data[stream + 10] & 0x80
    width, height = struct.unpack_from(">HH" if short else ">II", data, stream + 12)
    size = height + 1, width + 1
    return size if size == (tags.get(0xBC81), tags.get(0xBC80)) else None


CODECS = (
    Codec("JPEG", b"\xff\xd8", jpeg_size, imagecodecs.jpeg8_decode),
    Codec("PNG", b"\x89PNG", _png_size, imagecodecs.png_decode),
    Codec("BMP", b"BM", _bmp_size, _bmp_decode),
    Codec("JPEG 2000", b"\xff\x4f\xff\x51", _jpeg_2000_size, imagecodecs.jpeg2k_decode),
    Codec("JPEG 2000", b"\0\0\0\x0cjP  ", _jpeg_2000_size, imagecodecs.jpeg2k_decode),
    Codec("JPEG XR", b"II\xbc", _jpeg_xr_size, decode_jpeg_xr),
)


def codec_of(start: bytes) -> Codec | None:
    """Return how a tile that begins with these bytes is stored."""
    return next((codec for codec in CODECS if start.startswith(codec.magic)), None)


def decode_tile(data: bytes, out: UInt8Image) -> None:
    """Decode a tile into (Y, X, 3) uint8 of the size it must have.

    Raises
    ------
    ValueError
        If it is of an unknown kind, another size, or not 8-bit RGB or grey.
    """
    size = (out.shape[0], out.shape[1])
    codec = _checked(data, lambda found: found == size, f"not {size}")
    _decode(codec, data, out)


def decode_picture(data: bytes) -> UInt8Image:
    """Decode a picture of any size but a huge one to (Y, X, 3) uint8."""
    codec = _checked(data, lambda found: 0 < found[0] * found[1] <= _MOST_PIXELS, "a small picture")
    height, width = codec.size(data) or (0, 0)
    out = np.empty((height, width, 3), dtype=np.uint8)
    _decode(codec, data, out)
    return out


def _checked(data: bytes, fits: Callable[[tuple[int, int]], bool], wanted: str) -> Codec:
    """Return how a tile is stored if its header says that its size fits."""
    codec = codec_of(data[:16])
    if codec is None:
        raise ValueError(f"a tile begins with {data[:4].hex(' ') or 'nothing'}")
    try:
        size = codec.size(data)
    except (struct.error, IndexError):
        size = None
    if size is None or not fits(size):
        raise ValueError(f"a {codec.name} tile says it is {size}, {wanted}")
    return codec


def _decode(codec: Codec, data: bytes, out: UInt8Image) -> None:
    if codec.name == "JPEG":  # straight to its place; grey becomes RGB
        imagecodecs.jpeg8_decode(data, outcolorspace="RGB", out=out)
        return
    image = np.asarray(codec.decode(data))
    if image.ndim == 2:
        image = image[..., None]
    fitting = image.shape[:2] == out.shape[:2] and image.shape[2:] in ((1,), (3,), (4,))
    if image.dtype != np.uint8 or not fitting:
        raise ValueError(f"a {codec.name} tile holds {image.dtype} values of shape {image.shape}")
    out[:] = image[..., :3]
