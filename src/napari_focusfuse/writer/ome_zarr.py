"""OME-Zarr 0.5: one shard for each block of work, written by its one owner.

A shard is written beside its place and renamed, so it is there whole or not at all; two processes
that write into one shard lose each other's pixels, hence one block, one shard, one owner.  Chunks
are compressed by Zstandard with a checksum, which finds bits that rot.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import Region

from .output import OutputError, sync_folder, unwritable
from .pyramid import PyramidSpec

ATTRIBUTES = "napari-focusfuse"
"""Where our entries lie in a group's attributes."""

BLOCK = 2048
_ZSTD_LEVEL = 3
_COLOURS = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


@dataclass(frozen=True)
class OmeZarr:
    """An OME-Zarr being written, in the folder ``<path>.partial`` until it is finished.

    It can be sent to other processes; each writes the shards of the blocks it owns.

    Raises
    ------
    OutputError
        If a block is no power of two of tiles.
    """

    path: Path
    spec: PyramidSpec
    """Sizes and kind; its tiles are the chunks, its compression is not used."""
    block: int = BLOCK
    """Side of a block of work at level 0 in pixels."""

    def __post_init__(self) -> None:
        tiles, rest = divmod(self.block, self.spec.tile)
        if rest or tiles < 1 or tiles & (tiles - 1):
            raise OutputError(
                f"A block of {self.block} pixels cannot be a shard; choose 1, 2, 4 ... times the "
                f"{self.spec.tile} pixels of a tile."
            )

    @property
    def partial(self) -> Path:
        """The folder it is built in."""
        return self.path.with_name(f"{self.path.name}.partial")

    def shard(self, level: int) -> int:
        """Return the side of a shard of a level in pixels: a block's share of it, or one chunk."""
        return max(self.spec.tile, self.block >> level)

    def regions(self, level: int) -> Iterator[Region]:
        """Yield what each shard of a level shows, by rows, clipped to the level."""
        return self.spec.regions(level, self.shard(level))

    def create(
        self,
        *,
        mpp: tuple[float, float] | None,
        provenance: Mapping[str, Any],
        name: str,
        icc: bytes | None = None,
        background: int = 255,
    ) -> None:
        """Make the folder with its levels, all of them empty; one that was begun is begun anew.

        Parameters
        ----------
        mpp
            (y, x) micrometres per pixel of level 0, or None if unknown.
        provenance
            Where the image comes from, JSON.
        name
            What a viewer calls the image.
        icc
            Colour profile of the source.
        background
            Value of pixels that are never written; of maps it is 0.

        Raises
        ------
        OutputError
            If the folder cannot be made.
        """
        import zarr
        from zarr.codecs import BytesCodec, ZstdCodec

        spec = self.spec
        rgb, side = spec.samples == 3, (spec.tile, spec.tile)
        try:
            self.discard()
            ours: dict[str, Any] = {"provenance": dict(provenance)}
            if icc is not None:
                ours["icc_profile"] = base64.b64encode(icc).decode()
            self.partial.mkdir()
            group = zarr.create_group(self.partial, zarr_format=3)
            group.attrs.update({"ome": _ome(spec, mpp, name), ATTRIBUTES: ours})
            for level, (height, width) in enumerate(spec.levels):
                group.create_array(
                    str(level),
                    shape=(3, height, width) if rgb else (height, width),
                    dtype=spec.dtype,
                    chunks=(3, *side) if rgb else side,
                    shards=((3,) if rgb else ()) + (self.shard(level),) * 2,
                    serializer=BytesCodec(endian="little"),
                    compressors=ZstdCodec(level=_ZSTD_LEVEL, checksum=True),
                    fill_value=background if rgb else 0,
                    dimension_names=("c", "y", "x") if rgb else ("y", "x"),
                )
        except OSError as error:
            raise unwritable(self.path, error) from None

    def write(
        self, level: int, region: Region, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    ) -> None:
        """Write one shard; no other process may write the same one.

        Parameters
        ----------
        level, region
            One of :meth:`regions`.
        pixels
            (Y, X, 3) or (Y, X) array of the type of the spec.

        Raises
        ------
        OutputError
            If the pixels do not fit, or cannot be written.
        """
        import zarr

        expected = (region.height, region.width, *self.spec.shape(level)[2:])
        if pixels.shape != expected or pixels.dtype != self.spec.dtype:
            raise OutputError(
                f"A shard of {pixels.dtype} values and shape {pixels.shape} was given for "
                f"{self.path.name}; {self.spec.dtype} and {expected} are needed."
            )
        rows, columns = slice(region.y, region.stop_y), slice(region.x, region.stop_x)
        try:
            array = zarr.open_array(self.partial / str(level), mode="r+")
            if pixels.ndim == 3:
                array[:, rows, columns] = np.moveaxis(pixels, 2, 0)
            else:
                array[rows, columns] = pixels
        except OSError as error:
            raise unwritable(self.path, error) from None

    def finish(self) -> None:
        """Put the folder in its place, whole; one of that name is replaced.

        Raises
        ------
        OutputError
            If the system refuses to.
        """
        try:
            for folder, _, files in os.walk(self.partial, topdown=False):
                for name in files:
                    _settle(Path(folder, name))
                sync_folder(Path(folder))
            _exchange(self.partial, self.path)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def discard(self) -> None:
        """Remove what was begun, if anything was."""
        if self.partial.is_dir():
            shutil.rmtree(self.partial)


def zarr_provenance(path: Path) -> dict[str, Any] | None:
    """Return the provenance in a folder we wrote, or None if it has none."""
    try:
        about = json.loads((path / "zarr.json").read_bytes())
        found = about["attributes"][ATTRIBUTES]["provenance"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _exchange(new: Path, path: Path) -> None:
    """Give a folder the name of another, which is removed; no system does that in one step."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    existed = path.exists()
    if existed:
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if existed:
            os.replace(old, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _settle(file: Path) -> None:
    """Make a file outlive a loss of power; remove what a killed process left half written."""
    if file.name.endswith(".partial"):
        file.unlink()
        return
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def _ome(spec: PyramidSpec, mpp: tuple[float, float] | None, name: str) -> dict[str, Any]:
    """Return the metadata of OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5).

    The centre of a pixel that is the mean of ``2**k`` pixels on a side lies ``(2**k - 1) / 2``
    pixels from the centre of the first.
    """
    unit = {} if mpp is None else {"unit": "micrometer"}
    axes: list[dict[str, str]] = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    leading = [1.0] if spec.samples == 3 else []
    if leading:
        axes.insert(0, {"name": "c", "type": "channel"})
    size = mpp or (1.0, 1.0)
    datasets = []
    for level in range(len(spec.levels)):
        factor = 2**level
        changes = [
            {"type": "scale", "scale": [*leading, *(s * factor for s in size)]},
            {
                "type": "translation",
                "translation": [*(0.0 for _ in leading), *(s * (factor - 1) / 2 for s in size)],
            },
        ]
        datasets.append({"path": str(level), "coordinateTransformations": changes})
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean of 2 x 2"}
    found: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale]}
    if leading:
        window = {"min": 0, "max": 255, "start": 0, "end": 255}
        channels = [
            {"label": label, "color": colour, "active": True, "window": window}
            for label, colour in _COLOURS
        ]
        found["omero"] = {"channels": channels, "rdefs": {"model": "color"}}
    return found
