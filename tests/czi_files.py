"""Zeiss CZI written with libCZI; its writer makes no pyramid, so levels are declared afterwards."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slide_files import Stack, pyramid

BGR_24 = 3


def write_czi(
    path: Path,
    stack: Stack,
    *,
    levels: int = 2,
    compression: str = "uncompressed:",
    place: tuple[int, int] = (50, 100),
    scale: tuple[float, float, float] = (2.7e-6, 0.5e-6, 0.25e-6),
    times: int = 1,
    first_plane: int = 0,
) -> Path:
    """Write a stack with its top left corner at ``place``; ``scale`` is (z, y, x) in metres."""
    from pylibCZIrw import czi

    (top, left), (z_m, y_m, x_m) = place, scale
    sizes = []
    with czi.create_czi(str(path), exist_ok=True) as file:
        for level, image in enumerate(pyramid(stack, levels)):
            sizes.append((image.shape[1:3], 2**level))
            for t in range(times):
                for z, plane in enumerate(image):
                    file.write(
                        np.ascontiguousarray((plane if t == 0 else 255 - plane)[..., ::-1]),
                        location=(left, top),
                        plane={"Z": z + first_plane, "C": 0, "T": t},
                        compression_options=compression,
                    )
        file.write_metadata(document_name="slide", scale_x=x_m, scale_y=y_m, scale_z=z_m)
    data = bytearray(path.read_bytes())
    for entry, dimensions in directory_entries(data):
        height, width = (struct.unpack_from("<i", data, dimensions[a] + 16)[0] for a in "YX")
        times_smaller = dict(sizes)[height, width]
        for axis, side in (("Y", height), ("X", width)):
            struct.pack_into("<i", data, dimensions[axis] + 8, side * times_smaller)
        data[entry + 22] = 0 if times_smaller == 1 else 2
    path.write_bytes(data)
    return path


def directory_entries(data: bytes | bytearray) -> Iterator[tuple[int, dict[str, int]]]:
    """Yield where each entry of a sub-block lies, and where each of its dimensions does.

    An entry is ``DV``, pixel type, place of the data, part, compression, kind of pyramid, and for
    each dimension its name, start, size, start coordinate, stored size.
    """
    at = data.find(b"DV")
    while at >= 0:
        kind, count = (struct.unpack_from("<i", data, at + offset)[0] for offset in (2, 28))
        if kind == BGR_24 and 0 < count < 12:
            starts = [at + 32 + 20 * index for index in range(count)]
            yield at, {bytes(data[s : s + 4]).rstrip(b"\0").decode(): s for s in starts}
        at = data.find(b"DV", at + 2)
