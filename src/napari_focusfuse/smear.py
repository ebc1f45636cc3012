"""A drawn cytology smear: cells with their own depth, tilt and overlap.

The second kind of specimen of the benchmark and the shipped sample.  Shapes and stains are simple;
what is real about it is the geometry: cells lie over each other at different heights, which no
single sharp image can give.  Colours are optical densities of a Papanicolaou stain, drawn to look
right rather than measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .defocus import Float32Array, Sheet, Specimen, random_field

CYTOPLASM = (
    np.array([0.50, 0.22, 0.16], dtype=np.float32),  # cyanophilic: blue-green
    np.array([0.08, 0.34, 0.30], dtype=np.float32),  # eosinophilic: pink
    np.array([0.06, 0.28, 0.55], dtype=np.float32),  # orangeophilic
)
NUCLEUS = np.array([1.45, 1.60, 0.85], dtype=np.float32)
BACKGROUND = np.array([0.03, 0.03, 0.02], dtype=np.float32)

Chromatin = Literal["usual", "smooth", "coarse", "removed"]
_GRAIN = {"usual": (0.22, 0.18), "smooth": (0.04, 0.03), "coarse": (0.10, 0.45)}
"""How strong the fine and the coarse grain of a nucleus are."""
_SITE_PX = 112
"""Distance of the sites on which nuclei are planted: none touches another."""
_JITTER_PX = 16


@dataclass(frozen=True)
class PlantedNucleus:
    """A nucleus of a drawn cell, or the place where its cell lacks one."""

    y: float
    x: float
    """Centre in pixels."""
    radius_px: float
    area_px: float
    """What its outline encloses; 0 if it was removed."""
    height_um: float
    """Of its cell's middle."""
    chromatin: Chromatin


@dataclass(frozen=True)
class PlantedSmear:
    """A drawn smear of which every nucleus is known."""

    specimen: Specimen
    nuclei: tuple[PlantedNucleus, ...]
    """Removed ones too."""


def draw_smear(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cells: int = 24,
    depth_um: float = 12.0,
    mpp: float = 0.243,
) -> Specimen:
    """Draw a smear whose cells lie at heights uniform on +-``depth_um``.

    Parameters
    ----------
    shape
        (height, width) in pixels.
    cells
        Squamous cells; as many leucocytes and four times as many specks of debris come with them.

    Returns
    -------
    Specimen
        Every cell and speck is a sheet of its own, tilted by up to 6 degrees.
    """
    sheets = [_background(shape)]
    for _ in range(cells):
        height = float(rng.uniform(-depth_um, depth_um))
        sheets.append(_place(_squamous(rng, mpp), height, shape, rng, mpp))
    for _ in range(cells):
        height = float(rng.uniform(-depth_um, depth_um))
        sheets.append(_place(_leucocyte(rng, mpp), height, shape, rng, mpp))
    for _ in range(4 * cells):
        height = float(rng.uniform(-depth_um, depth_um))
        sheets.append(_place(_speck(rng, mpp), height, shape, rng, mpp))
    return Specimen(shape, tuple(sheets))


def plant_smear(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    depth_um: float,
    mpp: float = 0.243,
    margin: int = 32,
) -> PlantedSmear:
    """Draw small cells that may overlap, whose nuclei do not, and debris, at +-``depth_um``.

    A fifth of the cells lack their nucleus; as many have smooth, as many coarse chromatin.

    Parameters
    ----------
    shape
        (height, width) in pixels.
    margin
        Pixels at each side in which no nucleus lies.
    """
    sheets, nuclei = [_background(shape)], []
    kinds: tuple[Chromatin, ...] = ("removed", "smooth", "coarse", "usual", "usual")
    for y, x in _sites(shape, margin + round(5.5 / mpp), rng):
        chromatin = kinds[int(rng.integers(len(kinds)))]
        height = float(rng.uniform(-depth_um, depth_um))
        density, radius, area = _planted_cell(chromatin, rng, mpp)
        middle = density.shape[0] // 2
        sheets.append(_put(density, height, (y - middle, x - middle), shape, rng, mpp))
        nuclei.append(PlantedNucleus(y, x, radius, area, height, chromatin))
    for _ in range(2 * len(nuclei)):
        height = float(rng.uniform(-depth_um, depth_um))
        sheets.append(_place(_speck(rng, mpp), height, shape, rng, mpp))
    return PlantedSmear(Specimen(shape, tuple(sheets)), tuple(nuclei))


def _sites(shape: tuple[int, int], margin: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return places on a square grid, each moved a little at random."""
    lines = []
    for length in shape:
        count = max(1, 1 + (length - 2 * margin - 2 * _JITTER_PX) // _SITE_PX)
        first = (length - (count - 1) * _SITE_PX) // 2
        lines.append([first + _SITE_PX * index for index in range(count)])
    moves = rng.integers(-_JITTER_PX, _JITTER_PX + 1, (len(lines[0]), len(lines[1]), 2))
    return [
        (y + int(moves[i, j, 0]), x + int(moves[i, j, 1]))
        for i, y in enumerate(lines[0])
        for j, x in enumerate(lines[1])
    ]


def _background(shape: tuple[int, int]) -> Sheet:
    density = np.broadcast_to(BACKGROUND, (*shape, 3)).astype(np.float32)
    return Sheet(density, np.zeros(shape, dtype=np.float32))


def _place(
    density: Float32Array,
    height_um: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
    mpp: float,
) -> Sheet:
    """Put a (S, S, 3) drawing at a random place, tilted; what hangs over the edge is cut."""
    side = density.shape[0]
    y0, x0 = (int(rng.integers(-side // 2, length - side // 2)) for length in shape)
    return _put(density, height_um, (y0, x0), shape, rng, mpp)


def _put(
    density: Float32Array,
    height_um: float,
    corner: tuple[int, int],
    shape: tuple[int, int],
    rng: np.random.Generator,
    mpp: float,
) -> Sheet:
    """Put a (S, S, 3) drawing with its first pixel at (y, x), tilted and cut."""
    side, (y0, x0) = density.shape[0], corner
    slope_y, slope_x = rng.uniform(-0.1, 0.1, 2)
    y, x = np.indices((side, side), dtype=np.float32) - side / 2
    height = np.float32(height_um) + mpp * np.float32(slope_y) * y + mpp * np.float32(slope_x) * x
    rows = slice(max(0, -y0), min(side, shape[0] - y0))
    columns = slice(max(0, -x0), min(side, shape[1] - x0))
    cut = np.asarray(height[rows, columns], dtype=np.float32)
    return Sheet(density[rows, columns], cut, y=max(0, y0), x=max(0, x0))


def _squamous(rng: np.random.Generator, mpp: float) -> Float32Array:
    """Draw a squamous cell: a folded, granular sheet of cytoplasm with one nucleus."""
    density = _cytoplasm(rng, rng.uniform(17, 28) / mpp)
    nucleus = _nucleus(density.shape[0], rng.uniform(3.2, 5.0) / mpp, rng)
    return np.asarray(np.maximum(density + nucleus, 0), dtype=np.float32)


def _planted_cell(
    chromatin: Chromatin, rng: np.random.Generator, mpp: float
) -> tuple[Float32Array, float, float]:
    """Draw a small cell; return it with its nucleus' radius and area in pixels."""
    density = _cytoplasm(rng, rng.uniform(9, 16) / mpp)
    radius = rng.uniform(3.2, 5.0) / mpp
    area = 0.0
    if chromatin != "removed":
        nucleus = _nucleus(density.shape[0], radius, rng, _GRAIN[chromatin])
        area = float((nucleus[..., 0] > 0).sum())
        density = density + nucleus
    return np.asarray(np.maximum(density, 0), dtype=np.float32), radius, area


def _cytoplasm(rng: np.random.Generator, radius: float) -> Float32Array:
    """Draw a folded, granular sheet; ``radius`` in pixels."""
    side = int(3.4 * radius)
    inside = _blob(side, radius, rng, lobes=6, roughness=0.12, edge=1.5)
    texture = 1 + 0.10 * _grain(side, 2.0, rng) + 0.10 * _grain(side, 9.0, rng)
    stain = CYTOPLASM[int(rng.integers(len(CYTOPLASM)))] * rng.uniform(0.55, 1.1)
    density = (inside * texture)[..., None] * stain
    density += 0.35 * _rim(inside)[..., None] * stain
    return np.asarray(density)


def _leucocyte(rng: np.random.Generator, mpp: float) -> Float32Array:
    """Draw a neutrophil: a pale body with two to four dark lobes."""
    side = int(16 / mpp)
    body = _blob(side, 5.5 / mpp, rng, lobes=4, roughness=0.05, edge=2.0)
    density = body[..., None] * CYTOPLASM[0] * 0.35
    for _ in range(int(rng.integers(2, 5))):
        lobe = _nucleus(side, rng.uniform(1.3, 2.0) / mpp, rng)
        density = np.maximum(density, np.roll(lobe, rng.integers(-9, 10, 2), axis=(0, 1)))
    return np.asarray(density, dtype=np.float32)


def _speck(rng: np.random.Generator, mpp: float) -> Float32Array:
    """Draw a bacterium or a grain of debris."""
    side = int(6 / mpp)
    inside = _blob(side, rng.uniform(0.5, 1.4) / mpp, rng, lobes=2, roughness=0.35, edge=1.0)
    return np.asarray(inside[..., None] * NUCLEUS * rng.uniform(0.2, 0.6), dtype=np.float32)


def _nucleus(
    side: int,
    radius: float,
    rng: np.random.Generator,
    grain: tuple[float, float] = _GRAIN["usual"],
) -> Float32Array:
    """Draw a nucleus: clumped chromatin within a dark membrane."""
    fine, coarse = grain
    inside = _blob(side, radius, rng, lobes=3, roughness=0.05, edge=1.2)
    chromatin = 0.8 + fine * _grain(side, 1.6, rng) + coarse * _grain(side, 4.0, rng)
    density = inside * np.clip(chromatin, 0.3, 1.6) + 0.5 * _rim(inside)
    return np.asarray(density[..., None] * NUCLEUS * rng.uniform(0.7, 1.1), dtype=np.float32)


def _grain(side: int, correlation_px: float, rng: np.random.Generator) -> Float32Array:
    return random_field((side, side), correlation_px, rng)


def _blob(
    side: int, radius: float, rng: np.random.Generator, *, lobes: int, roughness: float, edge: float
) -> Float32Array:
    """Return a (side, side) opacity in [0, 1]: a disc whose radius waves with the angle."""
    y, x = np.indices((side, side), dtype=np.float32) - np.float32(side / 2)
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    outline = np.ones_like(distance)
    for lobe in range(1, lobes + 1):
        amplitude = np.float32(roughness * rng.standard_normal() / np.sqrt(lobe))
        outline += amplitude * np.cos(lobe * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.asarray(np.clip((radius * outline - distance) / edge + 0.5, 0, 1), dtype=np.float32)


def _rim(inside: Float32Array) -> Float32Array:
    """Return where an opacity changes: the membrane of a cell or nucleus."""
    gradient = np.hypot(*np.gradient(inside))
    return np.asarray(np.clip(2 * gradient, 0, 1), dtype=np.float32)
