"""PNG: pixels, scale and provenance in text."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from napari_focusfuse.slide import UInt8Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = "napari-focusfuse provenance"


def write_png(
    path: Path,
    image: UInt8Image,
    mpp: tuple[float, float] | None,
    about: str,
    icc: bytes | None = None,
) -> None:
    """Write an 8-bit image; ``about`` is the provenance as JSON, ``icc`` the colour profile."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(_KEYWORD, about)
    # PNG counts pixels per metre, Pillow per inch.
    scale = {} if mpp is None else {"dpi": (25400 / mpp[1], 25400 / mpp[0])}
    Image.fromarray(image).save(path, format="PNG", pnginfo=info, icc_profile=icc, **scale)


def png_provenance(path: Path) -> str | None:
    """Walk the chunks before the pixels; nothing is decoded, so no size need be trusted."""
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
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
