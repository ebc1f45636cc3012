"""What a compressed tile or strip claims about itself, checked before it is decoded.

A tile of a few bytes can declare an image of gigabytes, which decoders allocate at once.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .faults import damaged, not_rgb

_JPEG = (6, 7, 33007, 34892)
_HEADED = (33003, 33004, 33005, 34712, 34933, 50001)  # JPEG 2000, PNG, WebP: size in the header
_BOUNDED = (1, 5, 8, 32773, 32946, 50000, 50013)  # decoded into a buffer of the declared size
_MAX_BYTES = 1 << 29
"""Largest decoded tile or strip: half a gigabyte, a plane of 179 megapixels in one strip."""
_MOST_SCANS = 100
"""Progressive images have about ten scans; empty ones by the thousand keep a decoder busy."""


def guard(page: Any, path: Path) -> None:
    """Make ``page.decode`` refuse segments that are larger than the page says.

    Parameters
    ----------
    page
        ``tifffile.TiffPage``; its decoder is replaced by one that looks first.
    path
        For the message.
    """
    if page.compression not in (*_JPEG, *_HEADED, *_BOUNDED):
        name = getattr(page.compression, "name", str(page.compression))
        raise not_rgb(path.name, f"pixels compressed by {name}")
    height, width = _segment_shape(page)
    if height * width * page.samplesperpixel > _MAX_BYTES:
        raise damaged(
            path, f"it claims tiles of {width} x {height} pixels; export it with small tiles"
        )
    if page.compression in _BOUNDED or "guarded" in vars(page):
        return
    decode: Callable[..., Any] = page.decode
    is_jpeg = page.compression in _JPEG
    measure = jpeg_size if is_jpeg else picture_size

    def checked(data: bytes | None, index: int, /, **options: Any) -> Any:
        if data is not None and is_jpeg:
            check_scans(data)
        # With a header of its own (NDPI) the size is the one computed for the page.
        if data is not None and options.get("jpegheader") is None:
            found = measure(data)
            if found is None or found[0] > height or found[1] > width:
                raise damaged(path, f"a tile says it is {found}, not ({height}, {width})")
        return decode(data, index, **options)

    page.guarded = True
    page.decode = checked


def _segment_shape(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return int(min(page.rowsperstrip, page.imagelength)), int(page.imagewidth)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) as the frame header of a JPEG stream declares them (ITU T.81, B.2).

    JPEG-LS (ITU T.87) has the same header with a marker of its own.

    Raises
    ------
    ValueError
        If decoding it would take very long.
    """
    check_scans(data)
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            frame = data[position + 5 : position + 9]
            return int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:], "big")
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def check_scans(data: bytes) -> None:
    """Refuse a JPEG image with more scans than any encoder makes, a few bytes each.

    Raises
    ------
    ValueError
        If it is one.
    """
    scans = data.count(b"\xff\xda")  # never inside a scan, where 0 follows 255
    if scans > _MOST_SCANS:
        raise ValueError(f"a JPEG image of {scans} scans, which would take very long to decode")


def picture_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) as the header of a JPEG 2000, PNG or WebP stream declares them."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.height, image.width
