"""OME-Zarr written with the zarr library, the metadata by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from slide_files import Stack, pyramid

MICROMETRES = {"z": 2.7, "y": 0.5, "x": 0.25}


def write_ome_zarr(
    path: Path,
    stack: Stack,
    *,
    version: str = "0.4",
    axes: str = "tczyx",
    levels: int = 2,
    chunk: int = 64,
    times: int = 1,
    unit: str | None = "micrometer",
    scale: Mapping[str, float] = MICROMETRES,
    lowest: float | None = None,
    about: Mapping[str, Any] | None = None,
    images: Sequence[Stack] = (),
    **options: Any,
) -> Path:
    """Write a stack as OME-Zarr and return its folder.

    Parameters
    ----------
    axes
        Order of the axes; those of length one may be left out.
    lowest
        Height of the lowest plane, as a translation.
    about
        More metadata beside ``multiscales``.
    images
        Further images of the same multiscale list.
    options
        For ``zarr.create_array``.
    """
    options = {"zarr_format": 3 if version == "0.5" else 2, **options}
    if options["zarr_format"] == 2:
        options.setdefault("chunk_key_encoding", {"name": "v2", "separator": "/"})
    described = []
    for number, image in enumerate([stack, *images]):
        prefix = f"{number}_" if number else ""
        names = [f"{prefix}{level}" for level in range(levels)]
        for name, pixels in zip(names, pyramid(image, levels), strict=True):
            _write(path, name, pixels, axes, times, chunk, options)
        described.append(_multiscale(names, version, axes, unit, scale, lowest))
    metadata = {"multiscales": described, **(about or {})}
    if version == "0.5":
        group = {"zarr_format": 3, "node_type": "group"}
        group["attributes"] = {"ome": {"version": version, **metadata}}
        (path / "zarr.json").write_text(json.dumps(group))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(metadata))
    return path


def _write(
    path: Path, name: str, pixels: Stack, axes: str, times: int, chunk: int, options: dict[str, Any]
) -> None:
    full = np.stack([pixels, *[255 - pixels] * (times - 1)])  # t z y x c
    index = tuple(slice(None) if axis in axes else 0 for axis in "tzyxc")
    left = [axis for axis in "tzyxc" if axis in axes]
    data = full[index].transpose([left.index(axis) for axis in axes])
    sides = {"y": chunk, "x": chunk}
    chosen = {"chunks": tuple(sides.get(axis, 1) for axis in axes), **options}
    if "shards" in chosen:
        chosen["shards"] = tuple(chosen["shards"] if axis in "yx" else 1 for axis in axes)
    array = zarr.create_array(path, name=name, shape=data.shape, dtype="uint8", **chosen)
    array[:] = data


def _multiscale(
    names: Sequence[str],
    version: str,
    axes: str,
    unit: str | None,
    scale: Mapping[str, float],
    lowest: float | None,
) -> dict[str, Any]:
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in described:
        if axis["type"] == "space" and unit is not None:
            axis["unit"] = unit
    datasets = []
    for level, name in enumerate(names):
        factors = {"y": 2**level, "x": 2**level}
        changes: list[dict[str, Any]] = [
            {
                "type": "scale",
                "scale": [scale.get(axis, 1.0) * factors.get(axis, 1) for axis in axes],
            }
        ]
        if lowest is not None:
            shift = [lowest if axis == "z" else 0.0 for axis in axes]
            changes.append({"type": "translation", "translation": shift})
        datasets.append({"path": name, "coordinateTransformations": changes})
    found: dict[str, Any] = {"axes": described, "datasets": datasets, "name": "slide"}
    return found if version == "0.5" else {**found, "version": version}
