"""Arrays of Zarr 2 and 3 in a folder, decoded chunk by chunk into buffers of the declared size.

The zarr library trusts what it finds: a filter may name ``pickle``, which runs code, and a chunk of
a kilobyte may unfold to gigabytes.  Here only plain arrays of bytes or floats and the usual
compressors are read, and none can write more than a chunk.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .faults import damaged, not_rgb

MAX_METADATA_BYTES = 1 << 22
_MAX_CHUNK_BYTES = 1 << 27
_MAX_INNER_CHUNKS = 1 << 20
_MAX_CHUNKS = 1 << 22
_COMPRESSORS = ("blosc", "gzip", "zlib", "zstd")
_EMPTY = (1 << 64) - 1
"""What the index of a shard says of a chunk that is not stored (zarr-specs, sharding codec)."""

Decode = Callable[[bytes, int], bytes]


@dataclass(frozen=True)
class _Codecs:
    """How the bytes of one chunk are stored."""

    compressor: str | None = None
    checksum: bool = False
    """Whether four bytes of CRC-32C follow."""
    order: tuple[int, ...] | None = None
    """Axes as they lie in the chunk, slowest first; None is the order of the array."""


@dataclass(frozen=True)
class _Shard:
    """How a file holds many chunks: an index of (offset, length), and the chunks."""

    shape: tuple[int, ...]
    at_end: bool
    checksum: bool


@dataclass(frozen=True)
class ZarrArray:
    """An array of unsigned bytes or floats; safe to read from several threads."""

    slide: Path
    """What messages name."""
    folder: Path
    description: Path
    """The file of metadata."""
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    codecs: _Codecs
    key: Callable[[Sequence[int]], str]
    """Returns the name of the file of a chunk, or of a shard, relative to ``folder``."""
    fill: int
    shard: _Shard | None = None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))

    def read(self, window: Sequence[tuple[int, int]]) -> npt.NDArray[Any]:
        """Read a window that lies inside the array.

        Parameters
        ----------
        window
            (start, stop) along each axis.
        """
        out = np.full([stop - start for start, stop in window], self.fill, dtype=self.dtype)
        ranges = [
            range(start // side, -(-stop // side))
            for (start, stop), side in zip(window, self.chunk, strict=True)
        ]
        for place in itertools.product(*ranges):
            data = self._stored(place)
            if data is None:
                continue
            into, of = [], []
            for index, side, (start, stop) in zip(place, self.chunk, window, strict=True):
                first, last = max(start, index * side), min(stop, (index + 1) * side)
                into.append(slice(first - start, last - start))
                of.append(slice(first - index * side, last - index * side))
            out[tuple(into)] = self._decoded(data)[tuple(of)]
        return out

    def _stored(self, place: Sequence[int]) -> bytes | None:
        """Return the bytes of a chunk, or None where it is not stored."""
        if self.shard is None:
            return self._bytes(self.folder / self.key(place), 0, None)
        per_axis = [a // b for a, b in zip(self.shard.shape, self.chunk, strict=True)]
        outer = [index // count for index, count in zip(place, per_axis, strict=True)]
        inner = [index % count for index, count in zip(place, per_axis, strict=True)]
        file = self.folder / self.key(outer)
        length = 16 * math.prod(per_axis)
        start = -(length + 4 * self.shard.checksum) if self.shard.at_end else 0
        table = self._bytes(file, start, length)
        if table is None:
            return None
        number = int(np.ravel_multi_index(inner, per_axis))
        offset, size = (int(v) for v in np.frombuffer(table, "<u8", 2, 16 * number))
        if offset == size == _EMPTY:
            return None
        return self._bytes(file, offset, size)

    def _bytes(self, file: Path, start: int, length: int | None) -> bytes | None:
        """Read part of a file, counted from its end if ``start`` is negative."""
        if not file.is_file():  # nor a pipe, which would keep us waiting
            return None
        size = file.stat().st_size
        begin = size + start if start < 0 else start
        count = size if length is None else length
        if begin < 0 or begin + count > size or count > _MAX_CHUNK_BYTES:
            raise damaged(self.slide, f"a chunk of array {self.folder.name} ends early")
        with file.open("rb") as stream:
            stream.seek(begin)
            return stream.read(count)

    def _decoded(self, data: bytes) -> npt.NDArray[Any]:
        """Decode a chunk; it can not become larger than the array declares."""
        codecs, nbytes = self.codecs, math.prod(self.chunk) * self.dtype.itemsize
        if codecs.checksum:
            data = data[:-4]
        if codecs.compressor is not None:
            import imagecodecs

            data = getattr(imagecodecs, f"{codecs.compressor}_decode")(data, out=nbytes)
        if len(data) != nbytes:
            raise damaged(self.slide, f"a chunk holds {len(data)} bytes instead of {nbytes}")
        pixels = np.frombuffer(data, dtype=self.dtype)
        if codecs.order is None:
            return pixels.reshape(self.chunk)
        stored = pixels.reshape([self.chunk[axis] for axis in codecs.order])
        return stored.transpose(np.argsort(codecs.order))


def open_array(slide: Path, folder: Path) -> ZarrArray:
    """Read the description of the array in a folder, which is part of a slide.

    Raises
    ------
    SlideError
        If it contradicts itself, or is stored in a way that is not read.
    """
    three = folder / "zarr.json"
    array = _version_3(slide, folder) if three.is_file() else _version_2(slide, folder)
    sides = (*array.shape, *array.chunk, *(array.shard.shape if array.shard else ()))
    if min(sides, default=0) <= 0 or len(array.shape) != len(array.chunk):
        raise damaged(slide, f"it claims shape {array.shape} in chunks of {array.chunk}")
    count = math.prod(-(-a // b) for a, b in zip(array.shape, array.chunk, strict=True))
    if math.prod(array.chunk) * array.dtype.itemsize > _MAX_CHUNK_BYTES or count > _MAX_CHUNKS:
        raise damaged(slide, f"it claims {count} chunks of {array.chunk}")
    if array.shard is not None:
        pairs = list(zip(array.shard.shape, array.chunk, strict=True))
        inner = math.prod(a // b for a, b in pairs)
        if any(a % b for a, b in pairs) or inner > _MAX_INNER_CHUNKS:
            raise damaged(slide, f"it claims shards of {array.shard.shape}")
    return array


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no file."""
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_METADATA_BYTES:
        raise damaged(file, "its description is larger than any real one")
    with file.open("rb") as stream:
        found = json.loads(stream.read(MAX_METADATA_BYTES))
    if not isinstance(found, dict):
        raise damaged(file, "its description is no JSON object")
    return found


def _version_2(slide: Path, folder: Path) -> ZarrArray:
    about = read_json(folder / ".zarray")
    if not about:
        raise damaged(slide, f"array {folder.name} is missing")
    compressor = (about.get("compressor") or {}).get("id")
    names = [item.get("id", "") for item in about.get("filters") or ()] + [compressor]
    dtype = _check_kind(slide, str(about.get("dtype")).lstrip("|<"), names)
    separator = about.get("dimension_separator", ".")
    shape = _sides(about["shape"])
    backwards = tuple(reversed(range(len(shape)))) if about.get("order") == "F" else None
    return ZarrArray(
        slide,
        folder,
        folder / ".zarray",
        shape,
        _sides(about["chunks"]),
        _Codecs(compressor, order=backwards),
        _names("", "/" if separator == "/" else "."),
        _fill(about.get("fill_value")),
        dtype=dtype,
    )


def _version_3(slide: Path, folder: Path) -> ZarrArray:
    about = read_json(folder / "zarr.json")
    if about.get("node_type") != "array":
        raise damaged(slide, f"array {folder.name} is missing")
    grid = _sides(about["chunk_grid"]["configuration"]["chunk_shape"])
    codecs, chunk, shard = about["codecs"], grid, None
    if codecs[0]["name"] == "sharding_indexed":
        inside = codecs[0]["configuration"]
        codecs, chunk = inside["codecs"], _sides(inside["chunk_shape"])
        index = [item["name"] for item in inside.get("index_codecs", ())]
        _check_kind(slide, "u1", [name for name in index if name not in ("bytes", "crc32c")])
        at_end = inside.get("index_location", "end") != "start"
        shard = _Shard(grid, at_end, "crc32c" in index)
    names = [str(item["name"]).removeprefix("numcodecs.") for item in codecs]
    compressors = [name for name in names if name not in ("bytes", "transpose", "crc32c")]
    kind = str(about.get("data_type"))
    big = any(item.get("configuration", {}).get("endian") == "big" for item in codecs)
    kind = {"uint8": "u1", "float32": ">f4" if big else "f4"}.get(kind, kind)
    dtype = _check_kind(slide, kind, compressors)
    orders = [item["configuration"]["order"] for item in codecs if item["name"] == "transpose"]
    order = _order(slide, orders, len(chunk))
    keys = about.get("chunk_key_encoding", {"name": "default"})
    plain = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if plain else ".")
    return ZarrArray(
        slide,
        folder,
        folder / "zarr.json",
        _sides(about["shape"]),
        chunk,
        _Codecs(compressors[0] if compressors else None, names[-1] == "crc32c", order),
        _names("c" if plain else "", "/" if separator == "/" else "."),
        _fill(about.get("fill_value")),
        shard,
        dtype,
    )


def _check_kind(slide: Path, dtype: str, codecs: Sequence[str | None]) -> np.dtype[Any]:
    """Refuse what is no plain array of bytes or floats, or coded in a way we do not trust."""
    if dtype not in ("u1", "f4"):
        raise not_rgb(slide.name, f"{dtype} values")
    used = [name for name in codecs if name]
    if len(used) > 1 or not set(used) <= set(_COMPRESSORS):
        raise not_rgb(slide.name, f"chunks stored by {', '.join(used)}")
    return np.dtype(f"<{dtype}")


def _order(slide: Path, orders: Sequence[Any], count: int) -> tuple[int, ...] | None:
    if not orders:
        return None
    order = tuple(int(axis) for axis in orders[0])
    if len(orders) > 1 or sorted(order) != list(range(count)):
        raise damaged(slide, f"its axes are in the order {orders}")
    return order


def _sides(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _fill(value: object) -> int:
    return value & 0xFF if isinstance(value, int) else 0


def _names(prefix: str, separator: str) -> Callable[[Sequence[int]], str]:
    parts = [prefix] if prefix else []
    return lambda place: separator.join([*parts, *map(str, place)])


def attributes(folder: Path) -> Mapping[str, Any]:
    """Return the attributes of a group, of whichever version of Zarr."""
    if (folder / "zarr.json").is_file():
        found = read_json(folder / "zarr.json").get("attributes", {})
        return found if isinstance(found, dict) else {}
    return read_json(folder / ".zattrs")
