"""The one benchmark by which fusion methods and models are compared.

A sharp field is laid on a smooth random height map and imaged by :mod:`napari_focusfuse.defocus` at
layers -1, 0 and +1.  The truth is the same renderer with everything in focus, *with the noise of
the plane each pixel came from* and the same JPEG, so that no method is paid for denoising.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from .defocus import (
    Camera,
    Float32Array,
    Optics,
    Specimen,
    density_of,
    expose,
    render,
    uniform_height,
)
from .pixels import to_uint8
from .slide import FocusFuseError, UInt8Image
from .smear import draw_smear

OPTICS = Optics(na=0.65, spherical_waves=0.15, mpp=0.243)
"""An effective aperture of 0.65: objective 0.8, condenser stopped down to 0.5."""
CAMERA = Camera(electrons=8000.0, read_electrons=0.0, jpeg_quality=90)
Z_STEP_UM = 2.7
DEPTHS_UM = (4.0, 6.0, 8.0, 12.0)
SEEDS = (0, 1, 2, 3, 4)
BORDER_PX = 32
"""Left out of every score: the renderer mirrors the specimen there."""

DRAWN_SHAPE = (1024, 1024)
"""Size of a drawn smear."""
CELLS = 24
"""Squamous cells on a drawn smear of that size."""

Part = Literal["train", "validation", "calibration", "test"]


class DataError(FocusFuseError, OSError):
    """A data set's folder lacks an image, or holds another one under its name."""


@dataclass(frozen=True)
class DataSet:
    """Where sharp images come from and which of them may be used for what."""

    name: str
    doi: str
    licence: str
    citation: str
    mpp: float
    images: dict[str, dict[str, str]]
    """Part -> image name -> SHA-256."""

    def read(self, folder: Path, part: Part) -> list[UInt8Image]:
        """Return the (Y, X, 3) uint8 images of one part, in the order of their names.

        Raises
        ------
        DataError
            If an image is missing or is not the one the data set names.
        """
        return [_read_image(folder / name, digest) for name, digest in self.images[part].items()]


def data_set(name: str = "cric") -> DataSet:
    """Return a data set: one this project knows by its short name, or that of a ``.toml`` file.

    Raises
    ------
    DataError
        If there is no such data set, or its description is incomplete.
    """
    known = files("napari_focusfuse") / "data_sets" / f"{name}.toml"
    source = Path(name) if name.endswith(".toml") else known
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
        keys = ("name", "doi", "licence", "citation", "mpp")
        images = {part: table[part] for part in get_args(Part)}
        return DataSet(**{key: table[key] for key in keys}, images=images)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"There is no data set {name!r}; 'cric' and 'lbc' are known.") from error
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise DataError(f"The data set {name!r} is not described in full: {error}.") from error


def _read_image(path: Path, digest: str) -> UInt8Image:
    if not path.is_file():
        raise DataError(f"{path} is missing; fetch the image from its data set into that folder.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise DataError(f"{path} is not the image the data set names; fetch it again.")
    return np.asarray(Image.open(path).convert("RGB"))


@dataclass(frozen=True)
class SimulatedStack:
    """A rendered stack of three planes with all that is known about it."""

    planes: UInt8Image
    """(Z, Y, X, 3) by increasing z; layer 0 in the middle."""
    truth_one: UInt8Image
    """(Y, X, 3): in focus, with the noise of layer 0."""
    truth_all: UInt8Image
    """(Y, X, 3): in focus, with the noise of the plane nearest to each pixel's height."""
    height_um: Float32Array
    """(Y, X): true height above layer 0."""
    focus_um: tuple[float, ...] = (-Z_STEP_UM, 0.0, Z_STEP_UM)
    """Height of each plane above layer 0."""

    @property
    def oracle(self) -> UInt8Image:
        """(Y, X, 3): each pixel from the plane nearest to its true height.

        No selection of planes by a hard mask can be nearer focus; where cells overlap, one that
        takes their details from several planes can.
        """
        chosen = nearest_plane(self.height_um, self.focus_um)
        picked: UInt8Image = np.take_along_axis(self.planes, chosen[None, ..., None], axis=0)[0]
        return picked

    def truth(self, planes: int) -> UInt8Image:
        """Return the truth for a method that was given one plane, or all of them."""
        return self.truth_one if planes == 1 else self.truth_all


def simulate(
    image: UInt8Image,
    height_um: Float32Array,
    rng: np.random.Generator,
    *,
    optics: Optics = OPTICS,
    camera: Camera = CAMERA,
) -> SimulatedStack:
    """Render layers -1, 0, +1 of a sharp image laid on a height map.

    Parameters
    ----------
    image
        (Y, X, 3) uint8 sharp image, read as linear intensity.
    height_um
        (Y, X) float32 height above layer 0.
    rng
        Source of the noise.
    """
    specimen = Specimen.of_sheet(density_of(image), height_um)
    return simulate_specimen(specimen, height_um, rng, optics=optics, camera=camera)


def simulate_specimen(
    specimen: Specimen,
    height_um: Float32Array,
    rng: np.random.Generator,
    *,
    optics: Optics = OPTICS,
    camera: Camera = CAMERA,
    layers: int = 3,
    z_step_um: float = Z_STEP_UM,
    focus_um: Sequence[float] | None = None,
    noisy_truth: bool = True,
) -> SimulatedStack:
    """Render an odd number of ``layers`` of any specimen, layer 0 in the middle.

    Parameters
    ----------
    focus_um
        Heights of the planes, increasing; None: ``layers`` of them ``z_step_um`` apart.
    height_um
        (Y, X) float32 height that counts as each pixel's, such as ``specimen.height_map()``.
    noisy_truth
        Whether the truth carries the planes' noise; else it is what a camera without noise sees,
        which also rewards what averages noise away.
    """
    if focus_um is None:
        focus_um = [z_step_um * (index - layers // 2) for index in range(layers)]
    outermost = len(focus_um) // 2
    light, truth = render(specimen, optics, focus_um)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    nearest = nearest_plane(height_um, focus_um)
    came_from = np.take_along_axis(noise, nearest[None, ..., None], axis=0)[0]
    clean = to_uint8(truth)
    return SimulatedStack(
        planes=np.stack([expose(p, n, camera) for p, n in zip(light, noise, strict=True)]),
        truth_one=expose(truth, noise[outermost], camera) if noisy_truth else clean,
        truth_all=expose(truth, came_from, camera) if noisy_truth else clean,
        height_um=height_um,
        focus_um=tuple(focus_um),
    )


def nearest_plane(height_um: Float32Array, focus_um: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return the (Y, X) index of the plane nearest to each height; the planes by increasing z."""
    focus = np.asarray(focus_um, dtype=np.float32)
    return np.digitize(height_um, (focus[1:] + focus[:-1]) / 2)


def benchmark_stack(image: UInt8Image, depth_um: float, seed: int) -> SimulatedStack:
    """Return the benchmark's stack of a sharp image: heights uniform on +-``depth_um``."""
    rng = np.random.default_rng(seed)
    height = uniform_height(image.shape[:2], depth_um, rng, mpp=OPTICS.mpp)
    return simulate(image, height, rng)


def drawn_stack(depth_um: float, seed: int) -> SimulatedStack:
    """Return the benchmark's second kind of stack: a drawn smear, cells at +-``depth_um``.

    Its cells overlap at different heights, which a sharp field on a height map cannot show.
    """
    rng = np.random.default_rng(seed)
    specimen = draw_smear(DRAWN_SHAPE, rng, depth_um=depth_um, mpp=OPTICS.mpp)
    return simulate_specimen(specimen, specimen.height_map(), rng, optics=OPTICS, camera=CAMERA)
