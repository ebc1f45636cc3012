"""The kinds of stacks by which ``focusfuse benchmark`` compares all methods."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_focusfuse.benchmark_definition import (
    CAMERA,
    CELLS,
    DEPTHS_UM,
    DRAWN_SHAPE,
    OPTICS,
    Z_STEP_UM,
    SimulatedStack,
    simulate_specimen,
)
from napari_focusfuse.defocus import Camera, Float32Array, Specimen, density_of, uniform_height
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.smear import draw_smear


@dataclass(frozen=True)
class BenchmarkSet:
    """One kind of specimen and scanner by which all methods are compared."""

    name: str
    about: str
    """In a sentence, for the tables' head."""
    depths_um: tuple[float, ...] = DEPTHS_UM
    layers: tuple[int, ...] = (3, 11)
    """How many planes are given to the methods, each a row of stacks of its own."""
    overlapping: bool = False
    """Whether each drawn cell lies at its own height, else all on one sheet over a height map."""
    z_step_um: float = Z_STEP_UM
    camera: Camera = CAMERA
    noisy_truth: bool = False
    """Whether the truth carries the noise of the plane nearest to each pixel.

    On drawn cells it must not: on their empty background it would make a present of that noise to
    the oracle, which alone knows which plane that is.
    """

    def stack(
        self,
        depth_um: float,
        seed: int,
        layers: int,
        shape: tuple[int, int] = DRAWN_SHAPE,
        field: UInt8Image | None = None,
    ) -> SimulatedStack:
        """Render one stack.

        Parameters
        ----------
        shape
            (height, width) in pixels; cells are as dense in any.
        field
            (Y, X, 3) uint8 sharp image that takes the place of a drawn smear, cut to the shape from
            its middle.
        """
        rng = np.random.default_rng(seed)
        if self.overlapping:
            specimen = _smear(shape, depth_um, rng)
            height = specimen.height_map()
        else:
            density = _smear(shape, 0.0, rng).density() if field is None else _cut(field, shape)
            height = uniform_height(density.shape[:2], depth_um, rng, mpp=OPTICS.mpp)
            specimen = Specimen.of_sheet(density, height)
        return simulate_specimen(
            specimen,
            height,
            rng,
            camera=self.camera,
            layers=layers,
            z_step_um=self.z_step_um,
            noisy_truth=self.noisy_truth,
        )


_NEARLY_EQUAL = BenchmarkSet(
    "nearly equal",
    "planes 0.5 um apart on drawn cells at heights of +-1 um, so that all show nearly the same",
    depths_um=(1.0,),
    layers=(3,),
    z_step_um=0.5,
)
BENCHMARK_SETS = (
    BenchmarkSet("apart", "drawn cells on a smooth height map: none lies over another"),
    BenchmarkSet(
        "overlapping", "drawn cells, each at its own height, over each other", overlapping=True
    ),
    replace(
        _NEARLY_EQUAL, name="nearly equal, low noise", camera=replace(CAMERA, electrons=20000.0)
    ),
    replace(
        _NEARLY_EQUAL, name="nearly equal, high noise", camera=replace(CAMERA, electrons=2000.0)
    ),
)
"""Drawn, so that nothing has to be fetched to repeat the benchmark."""


def _smear(shape: tuple[int, int], depth_um: float, rng: np.random.Generator) -> Specimen:
    area = DRAWN_SHAPE[0] * DRAWN_SHAPE[1]
    cells = max(1, round(CELLS * shape[0] * shape[1] / area))
    return draw_smear(shape, rng, cells=cells, depth_um=depth_um, mpp=OPTICS.mpp)


def _cut(field: UInt8Image, shape: tuple[int, int]) -> Float32Array:
    """Return the density of the middle of a sharp image."""
    y, x = (max(0, (size - side) // 2) for size, side in zip(field.shape, shape, strict=False))
    return density_of(field[y : y + shape[0], x : x + shape[1]])
