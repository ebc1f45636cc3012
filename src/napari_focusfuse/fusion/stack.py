"""Fuse focal planes that are arrays: colour or grey, of any precision, larger than memory or not.

Slides are 8-bit RGB and have :func:`napari_focusfuse.fuse`.  This is for microscopes and scripts:
what goes in as grey or with 16 bits comes out so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_focusfuse.plane_registration import read_grey, reduction, register_planes, stayed
from napari_focusfuse.plane_transform import PlaneTransform, resample
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.slide import FocusFuseError, PlaneError, Region
from napari_focusfuse.tiles import Tile, TileGrid, reflect

from .catalogue import load_method, method_info
from .memory import TileComputer
from .method import Float32Image, MethodInfo
from .plan import DEFAULT, tile_grid

Image = npt.NDArray[Any]
_DTYPES = ("uint8", "uint16", "float32", "float64")


class StackError(FocusFuseError, ValueError):
    """The planes do not make a stack that can be fused."""


def fuse_stack(
    planes: Any,
    method: str = "evidence",
    *,
    device: str = "auto",
    white: float | None = None,
    register: bool | Sequence[PlaneTransform] = False,
    z_um: Sequence[float | None] | None = None,
    mpp: tuple[float, float] | float | None = None,
) -> Image:
    """Fuse a stack of focal planes, tile by tile.

    Parameters
    ----------
    planes
        (Z, Y, X) grey or (Z, Y, X, 3) RGB array with z increasing; or a sequence of (Y, X) or
        (Y, X, 3) arrays.  uint8, uint16 or float; NumPy, memory-mapped, dask, zarr, or whatever has
        ``shape``, ``dtype`` and ``__getitem__``: only one tile of each plane is read at a time.
    method
        A method's name, a family (``"swift"``), or the path of a model file.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    white
        The value that counts as 1, such as 4095 for a camera of 12 bits; no pixel may exceed it.
        None: the largest of an integer type; 1 for float.
    register
        Whether planes that are shifted or scaled a little are moved onto the middle one first; or
        the transforms to move them by, as :func:`register_stack` found them.
    z_um
        Height of each plane in micrometres, None where it is not known; for networks that are told.
    mpp
        Micrometres per pixel, or (y, x) of them; None: not known.

    Returns
    -------
    (Y, X) or (Y, X, 3) array of the planes' type

    Raises
    ------
    StackError
        If the planes differ in size or type, or hold values that cannot be fused, such as NaN; or
        ``z_um`` does not fit them.
    RegistrationError
        If planes that are to be registered lie too far from the middle one.
    PlaneError
        If the method does not take so many planes.
    FocusFuseError
        If the method or device is unknown, or memory runs out.
    """
    stack = PlaneStack.of(planes, white)
    info = method_info(method, len(stack.planes))
    _check_count(info, len(stack.planes))
    if register is not False:
        stack = stack.moved(stack.registered() if register is True else register)
    sampling = _sampling(len(stack.planes), z_um, mpp)
    loaded, grid = load_method(info, device).at(sampling), tile_grid(info, DEFAULT)
    compute = TileComputer(
        loaded, grid, title=info.title, device=loaded.device, halo=loaded.info.halo
    )
    height, width = stack.shape
    rows, columns = (_shares(grid, axis, size) for axis, size in enumerate(stack.shape))
    fused = np.zeros((height, width, stack.channels), np.float32)
    for tile in grid.tiles_for(0, 0, height, width):
        values = compute(stack.read(grid, tile)[None])[0, ..., : stack.channels]
        y, x = grid.active_origin(tile)
        share = np.multiply.outer(rows[tile.row], columns[tile.column])[..., None]
        down, right = share.shape[:2]
        margin = grid.margin
        part = share * values[margin : margin + down, margin : margin + right]
        fused[y : y + down, x : x + right] += part
    return stack.as_given(fused)


def register_stack(planes: Any, white: float | None = None) -> tuple[PlaneTransform, ...]:
    """Find how each plane lies against the middle one, to record it or to look at it.

    Parameters
    ----------
    planes, white
        As :func:`fuse_stack` takes them.

    Returns
    -------
    One transform per plane; ``fuse_stack(planes, register=...)`` takes them.

    Raises
    ------
    StackError
        If the planes are no stack.
    RegistrationError
        If a plane lies too far from the middle one.
    """
    return PlaneStack.of(planes, white).registered()


@dataclass(frozen=True)
class PlaneStack:
    """Planes of one size and type, read where they are needed."""

    planes: tuple[tuple[Any, tuple[int, ...]], ...]
    """Of each plane the array that holds it, and its index there."""
    shape: tuple[int, int]
    """(height, width) in pixels."""
    colour: bool
    dtype: np.dtype[Any]
    white: float
    moves: tuple[PlaneTransform, ...] = ()
    """How each plane is moved as it is read; empty: they stay."""

    @classmethod
    def of(cls, planes: Any, white: float | None = None) -> PlaneStack:
        """Check planes as :func:`fuse_stack` takes them, without reading a pixel.

        Raises
        ------
        StackError
            If they are no stack.
        """
        held: tuple[tuple[Any, tuple[int, ...]], ...]
        if hasattr(planes, "shape"):
            held = tuple((planes, (z,)) for z in range(planes.shape[0] if planes.shape else 0))
            shapes = [tuple(planes.shape[1:])] * len(held)
            dtypes = [np.dtype(planes.dtype)]
        else:
            held = tuple((plane, ()) for plane in planes)
            shapes = [tuple(plane.shape) for plane, _ in held]
            dtypes = [np.dtype(plane.dtype) for plane, _ in held]
        if not held:
            raise StackError("There is no plane to fuse; give one array for each focal plane.")
        for shape, dtype in zip(shapes, dtypes, strict=False):
            if shape != shapes[0] or dtype != dtypes[0]:
                raise StackError(
                    f"One plane is {_told(shapes[0], dtypes[0])} and another "
                    f"{_told(shape, dtype)}; give planes of one size and type."
                )
        shape, dtype = shapes[0], dtypes[0]
        colour = len(shape) == 3
        if not (len(shape) == 2 or (colour and shape[2] == 3)) or 0 in shape:
            raise StackError(
                f"Planes of shape {shape} cannot be fused; give grey planes of (height, width) or "
                "RGB planes of (height, width, 3)."
            )
        if dtype.name not in _DTYPES:
            raise StackError(
                f"Planes of type {dtype} cannot be fused; convert them to one of "
                f"{', '.join(_DTYPES)}."
            )
        largest = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
        if white is not None and not 0 < white < np.inf:
            raise StackError(f"white={white} is no value to count as 1; give one above 0.")
        return cls(held, (shape[0], shape[1]), colour, dtype, largest if white is None else white)

    @property
    def channels(self) -> int:
        """1 for grey planes, 3 for RGB."""
        return 3 if self.colour else 1

    def registered(self) -> tuple[PlaneTransform, ...]:
        """Return how each plane lies against the middle one; warns of planes that were not found.

        Raises
        ------
        RegistrationError
            If a plane lies too far off.
        """
        factor = reduction(self.shape)
        small = [
            read_grey(partial(self._stored, z), self.shape, factor) for z in range(len(self.planes))
        ]
        moves = register_planes(np.stack(small), self.shape, (float(factor), float(factor)))
        for sentence in stayed(moves):
            warnings.warn(sentence, stacklevel=4)
        return moves

    def moved(self, moves: Sequence[PlaneTransform]) -> PlaneStack:
        """Return these planes moved by one transform each.

        Raises
        ------
        StackError
            If there are more or fewer transforms than planes.
        """
        if len(moves) != len(self.planes):
            raise StackError(
                f"{len(moves)} transforms cannot move {len(self.planes)} planes; give one each."
            )
        return replace(self, moves=tuple(moves))

    def read(self, grid: TileGrid, tile: Tile) -> Float32Image:
        """Return a (Z, tile, tile, 3) float32 tile in [0, 1], mirrored at the planes' edges.

        Raises
        ------
        StackError
            If a value is not a number, or not in [0, white].
        """
        starts = grid.origin(tile)
        indices = [reflect(s, grid.tile, n) for s, n in zip(starts, self.shape, strict=True)]
        (y, x), (stop_y, stop_x) = (
            [int(at(index)) for index in indices] for at in (np.min, np.max)
        )
        box = Region(y, x, stop_y + 1 - y, stop_x + 1 - x)
        stack = np.empty((len(self.planes), grid.tile, grid.tile, 3), np.float32)
        for z in range(len(self.planes)):
            part = self._seen(z, box)
            part = part if self.colour else part[..., None]
            stack[z] = part[indices[0] - y][:, indices[1] - x]
        return stack

    def _seen(self, z: int, box: Region) -> Float32Image:
        """Return what plane ``z`` shows in a region, moved if it is to be."""
        if not self.moves or self.moves[z].is_identity:
            return self._stored(z, box)
        rows, columns = self.moves[z].positions(box, self.shape, (1.0, 1.0))
        return resample(partial(self._stored, z), self.shape, rows, columns).clip(0, 1)

    def _stored(self, z: int, box: Region) -> Float32Image:
        """Return a region of plane ``z`` in [0, 1]."""
        array, place = self.planes[z]
        inside = (slice(box.y, box.stop_y), slice(box.x, box.stop_x))
        read = np.asarray(array[(*place, *inside)])
        part = np.divide(read, self.white, dtype=np.float64).astype(np.float32)
        self._check(part, z)
        return part

    def _check(self, part: Float32Image, z: int) -> None:
        low, high = float(part.min()), float(part.max())  # both are NaN if any value is
        if not (low >= 0 and high <= 1):
            found = (
                "values that are not numbers"
                if np.isnan(low)
                else (f"values from {low * self.white:g} to {high * self.white:g}")
            )
            raise StackError(
                f"Plane {z} holds {found}, and values from 0 to {self.white:g} can be fused; "
                "correct them, or say by white= which value counts as 1."
            )

    def as_given(self, fused: Float32Image) -> Image:
        """Return (Y, X, channels) values in [0, 1] in the planes' own shape, range and type."""
        fused *= np.float32(self.white)
        if self.dtype.kind == "u":
            np.rint(fused, out=fused)
        fused = fused if self.colour else fused[..., 0]
        return fused.astype(self.dtype, copy=False)


def _check_count(info: MethodInfo, count: int) -> None:
    takes = None if info.plane_offsets is None else len(info.plane_offsets)
    if takes is not None and takes != count:
        raise PlaneError(
            f"{info.title} takes {takes} focus layers, not {count}; give as many, or choose "
            "another method."
        )


def _sampling(
    count: int,
    z_um: Sequence[float | None] | None,
    mpp: tuple[float, float] | float | None,
) -> Sampling:
    """Return what is known of the planes' distances and the pixel size."""
    heights = (None,) * count if z_um is None else tuple(z_um)
    known = [height for height in heights if height is not None]
    if len(heights) != count or known != sorted(set(known)):
        raise StackError(
            f"z_um={heights} does not say how high {count} planes lie; give as many heights, "
            "increasing, None where one is not known."
        )
    return Sampling.of(heights, mpp)


def _told(shape: Sequence[int], dtype: np.dtype[Any]) -> str:
    return f"{' x '.join(map(str, shape))} {dtype}"


def _shares(grid: TileGrid, axis: int, size: int) -> dict[int, Float32Image]:
    """Return, for each row or column of tiles, the share it has in the pixels it is active in.

    A tile's weights are an outer product, so the sum that they are divided by is one too.
    """
    lengths = (size, 1) if axis == 0 else (1, size)
    places = {t.row if axis == 0 else t.column for t in grid.tiles_for(0, 0, *lengths)}
    total = np.zeros(size, np.float64)
    weights = {}
    for place in sorted(places):
        first = grid.active_origin(Tile(place, place))[axis]
        weights[place] = first, grid.weights()[: size - first].astype(np.float64)
        total[first : first + len(weights[place][1])] += weights[place][1]
    return {
        place: (own / total[first : first + len(own)]).astype(np.float32)
        for place, (first, own) in weights.items()
    }
