"""Small slide files of every kind we read, written from scratch."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

Stack = npt.NDArray[np.uint8]

PLANE_COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (60, 200, 200))


def make_stack(planes: int = 3, height: int = 256, width: int = 320, seed: int = 0) -> Stack:
    """Return a (Z, Y, X, 3) uint8 stack: every plane has a colour of its own and smooth texture.

    Smooth enough to survive JPEG, and nowhere equal in two planes or two places nearby.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    stack = np.empty((planes, height, width, 3), dtype=np.uint8)
    for z in range(planes):
        wave = np.sin(y / (9 + z)) + np.sin(x / (7 + z)) + 0.5 * rng.random()
        colour = np.array(PLANE_COLOURS[z % len(PLANE_COLOURS)])
        stack[z] = np.clip(colour + 20 * wave[..., None], 0, 255).astype(np.uint8)
    return stack


def halved(stack: Stack) -> Stack:
    """Return the mean of each 2 x 2 pixels of a (..., Y, X, 3) stack, written plainly."""
    height, width = stack.shape[-3] // 2 * 2, stack.shape[-2] // 2 * 2
    even = stack[..., :height, :width, :].astype(int)
    parts = [even[..., y::2, x::2, :] for y in (0, 1) for x in (0, 1)]
    return ((sum(parts) + 2) // 4).astype(np.uint8)


def pyramid(stack: Stack, levels: int, step: int = 2) -> list[Stack]:
    """Return the stack and its reductions by ``step`` (2 or 4)."""
    out = [stack]
    for _ in range(levels - 1):
        out.append(halved(out[-1]) if step == 2 else halved(halved(out[-1])))
    return out


def write_ome(
    path: Path,
    stack: Stack,
    *,
    levels: int = 3,
    step: int = 2,
    tile: int | None = 64,
    compression: str | None = "deflate",
    axes: str = "ZYXS",
    **metadata: Any,
) -> Path:
    """Write an OME-TIFF with its pyramid in SubIFDs; ``metadata`` goes into the OME-XML."""
    images = pyramid(stack, levels, step)
    options = {
        "photometric": "rgb",
        "compression": compression,
        "tile": None if tile is None else (tile, tile),
        "extrasamples": ["unassalpha"] if stack.shape[-1] == 4 else None,
    }
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(images[0], subifds=levels - 1, metadata={"axes": axes, **metadata}, **options)
        for image in images[1:]:
            writer.write(image, subfiletype=1, **options)
    return path


def write_pages(path: Path, stack: Stack, **options: Any) -> Path:
    """Write a plain TIFF with one page per plane and nothing else."""
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, photometric="rgb", metadata=None, **options)
    return path


def write_aperio(
    path: Path,
    stack: Stack,
    offsets: Sequence[float | None],
    levels: int = 2,
    step: int = 2,
    scale: str = "|MPP = 0.2500",
) -> Path:
    """Write a stack as Aperio does: full-size pages of every plane, then those of every level."""
    height, width = stack.shape[1:3]
    text = f"Aperio Image Library v12.0\n{width}x{height} [0,0 {width}x{height}] (64x64) JPEG/RGB"
    images = pyramid(stack, levels, step)
    options: dict[str, Any] = {"photometric": "rgb", "compression": "deflate", "metadata": None}
    thumbnail = np.ascontiguousarray(stack[0, ::8, ::8])
    with tifffile.TiffWriter(path) as writer:
        for level, image in enumerate(images):
            for z, plane in enumerate(image):
                facts = f"{text}|AppMag = 40{scale}"
                if offsets[z] is not None:
                    facts += f"|OffsetZ = {offsets[z]:.4f}"
                writer.write(plane, description=facts, tile=(64, 64), **options)
                if level == 0 and z == 0:
                    writer.write(thumbnail, description=text, **options)
        writer.write(
            np.full((20, 24, 3), 7, np.uint8), description=f"{text} label", subfiletype=1, **options
        )
        writer.write(
            np.full((22, 26, 3), 9, np.uint8), description=f"{text} macro", subfiletype=9, **options
        )
    return path


def write_folder(path: Path, stack: Stack, pattern: str = "plane_{}.png", first: int = 1) -> Path:
    """Write one image per plane."""
    path.mkdir(exist_ok=True)
    for number, plane in enumerate(stack, first):
        Image.fromarray(plane).save(path / pattern.format(number))
    return path


def write_ndpi(
    path: Path, stack: Stack, heights_nm: Sequence[int | None], levels: int = 2, step: int = 2
) -> Path:
    """Write a stack as Hamamatsu does; ``heights_nm`` are the planes' z in the order of the file.

    Pages go level by level, odd levels in the opposite order: the tags alone tell the planes.
    Little-endian classic TIFF with 64-bit directory offsets and a row of high words after each
    directory; one JPEG strip per page, cut by restart markers.
    """
    body = bytearray(b"II*\0" + struct.pack("<Q", 0))
    link = 4
    images = pyramid(stack, levels, step)
    for level, image in enumerate(images):
        backwards = level % 2 and None not in heights_nm
        for z, height in list(enumerate(heights_nm))[:: -1 if backwards else 1]:
            link = _add_ndpi_page(body, link, image[z], 40.0 / step**level, height)
    macro = np.full((32, 64, 3), 120, np.uint8)
    _add_ndpi_page(body, link, macro, -1.0, None)
    path.write_bytes(body)
    return path


def write_mirax(path: Path, image: Stack, focus_layers: Sequence[str]) -> Path:
    """Write a MIRAX slide of one tile; every focus layer it names shares that tile."""
    identity = "0123456789ABCDEF0123456789ABCDEF"
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"")
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG")
    tile = encoded.getvalue()
    start = 296
    (folder / "Data0000.dat").write_bytes(bytes(start) + tile)
    # Roots, then the table of records, the one list head, and its one page with one entry.
    table = 5 + len(identity) + 8
    head = table + 4 * len(focus_layers)
    index = b"01.02" + identity.encode() + struct.pack("<ii", table, table)
    index += struct.pack("<i", head) * len(focus_layers) + struct.pack("<ii", 0, head + 8)
    index += struct.pack("<ii", 1, 0) + struct.pack("<iiii", 0, start, len(tile), 0)
    (folder / "Index.dat").write_bytes(index)
    text = MIRAX.format(
        identity=identity, height=image.shape[0], width=image.shape[1], count=len(focus_layers)
    )
    names = "".join(f"HIER_1_VAL_{i} = {name}\r\n" for i, name in enumerate(focus_layers))
    ini = text.replace("\n", "\r\n").replace("FOCUS\r\n", names)
    (folder / "Slidedat.ini").write_bytes(b"\xef\xbb\xbf" + ini.encode())
    return path


MIRAX = """[GENERAL]
SLIDE_ID = {identity}
IMAGENUMBER_X = 1
IMAGENUMBER_Y = 1
OBJECTIVE_MAGNIFICATION = 40
[HIERARCHICAL]
INDEXFILE = Index.dat
HIER_COUNT = 2
NONHIER_COUNT = 0
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 1
HIER_0_VAL_0 = ZoomLevel_0
HIER_0_VAL_0_SECTION = LAYER_0_LEVEL_0_SECTION
HIER_1_NAME = Microscope focus level
HIER_1_COUNT = {count}
FOCUS
[DATAFILE]
FILE_COUNT = 1
FILE_0 = Data0000.dat
[LAYER_0_LEVEL_0_SECTION]
IMAGE_CONCAT_FACTOR = 0
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = 0.25
MICROMETER_PER_PIXEL_Y = 0.25
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = {width}
DIGITIZER_HEIGHT = {height}
IMAGE_FORMAT = PNG
"""


def _add_ndpi_page(
    body: bytearray, link: int, image: Stack, magnification: float, height_nm: int | None
) -> int:
    """Append one page, patch ``link`` to point to it, return where its own link lies."""
    data, starts = _restarting_jpeg(image)
    strip = _append(body, data)
    height, width = image.shape[:2]
    rational = _append(body, struct.pack("<II", max(1, round(1000 * magnification)), 1))
    starts_at = _append(body, struct.pack(f"<{len(starts)}I", *starts))
    floats = struct.unpack("<I", struct.pack("<f", magnification))[0]
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, _append(body, struct.pack("<HHH", 8, 8, 8))),
        (259, 3, 1, 7),
        (262, 3, 1, 6),
        (271, 2, 10, _append(body, b"Hamamatsu\0")),
        (273, 4, 1, strip),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (282, 5, 1, rational),
        (283, 5, 1, rational),
        (296, 3, 1, 3),
        (65420, 4, 1, 1),
        (65421, 11, 1, floats),
    ]
    if height_nm is not None:
        entries.append((65424, 9, 1, height_nm & 0xFFFFFFFF))
    if len(starts) > 1:
        entries.append((65426, 4, len(starts), starts_at))
    directory = _append(body, b"")
    body += struct.pack("<H", len(entries))
    for code, kind, count, value in entries:
        body += struct.pack("<HHII", code, kind, count, value)
    following = len(body)
    body += struct.pack("<Q", 0) + bytes(4 * len(entries))
    body[link : link + 8] = struct.pack("<Q", directory)
    return following


def _append(body: bytearray, data: bytes) -> int:
    body += bytes(len(body) % 2)
    place = len(body)
    body += data
    return place


def _restarting_jpeg(image: Stack) -> tuple[bytes, list[int]]:
    """Return a 4:4:4 JPEG with a few restarts in each row, and where its intervals begin."""
    row = -(-image.shape[1] // 8)
    blocks = max(count for count in range(1, max(1, row // 4) + 1) if row % count == 0)
    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=95, subsampling=0, restart_marker_blocks=blocks
    )
    data = buffer.getvalue()
    scan = data.index(b"\xff\xda")
    scan += 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    starts = [scan]
    starts += [
        i + 2 for i in range(scan, len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7
    ]
    return data, starts


def scan_bomb(side: int, scans: int = 2000) -> bytes:
    """Return a progressive JPEG image whose last scan, of some bytes, is repeated."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (200, 100, 50)).save(stream, "JPEG", progressive=True)
    sound = stream.getvalue()
    before = sound.rindex(b"\xff\xda", 0, sound.rindex(b"\xff\xda"))
    last = sound[sound.index(b"\xff\xc4", before) : -2]  # its Huffman table and itself
    return sound[:-2] + scans * last + sound[-2:]
