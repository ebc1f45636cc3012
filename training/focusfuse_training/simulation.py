"""Simulated training stacks, rendered once into a cache folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import simulate
from napari_focusfuse.defocus import (
    WAVELENGTHS_UM,
    Camera,
    Optics,
    blur_labels,
    degrade,
    uniform_height,
)
from napari_focusfuse.slide import UInt8Image

from .patch_cache import is_whole
from .stack import SUFFIX, StackError, StackFile, TrainingStack

log = logging.getLogger(__name__)

_CHANNELS = len(WAVELENGTHS_UM)
Maker = Callable[[Sequence[UInt8Image], int, tuple[int, ...]], TrainingStack]
"""Makes one stack from sharp images, its side in pixels and a seed."""


def random_optics(rng: np.random.Generator) -> Optics:
    """Draw a microscope: wider than one scanner, so that a model does not learn just one."""
    return Optics(
        na=float(rng.uniform(0.55, 0.75)),
        spherical_waves=float(rng.uniform(-0.25, 0.25)),
        chromatic_um=float(rng.uniform(-0.3, 0.3)),
    )


def random_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera and its compression."""
    return Camera(
        electrons=float(rng.uniform(5000, 15000)),
        read_electrons=float(rng.uniform(0, 10)),
        jpeg_quality=int(rng.integers(80, 96)),
    )


def random_depth_um(rng: np.random.Generator) -> float:
    """Draw the half range of heights: one stack in seven lies in focus, the others up to 12 um."""
    return 0.2 if rng.random() < 0.15 else float(rng.uniform(2.0, 12.0))


def random_stain(image: UInt8Image, rng: np.random.Generator) -> UInt8Image:
    """Vary the stain: each channel's optical density is scaled, and channels are mixed a little."""
    transmission = (image.astype(np.float32) + 1.0) / 256.0
    gains = np.diag(rng.uniform(0.7, 1.4, _CHANNELS)) + rng.uniform(
        -0.1, 0.1, (_CHANNELS, _CHANNELS)
    )
    density = np.maximum(-np.log(transmission) @ gains.astype(np.float32), 0.0)
    return np.rint(np.exp(-density) * 255.0).astype(np.uint8)


def random_crop(images: Sequence[UInt8Image], side: int, rng: np.random.Generator) -> UInt8Image:
    """Cut a square of a random image, turned and flipped at random; one in two keeps its stain."""
    image = images[int(rng.integers(len(images)))]
    y, x = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
    crop = np.rot90(image[y : y + side, x : x + side], int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return random_stain(crop, rng) if rng.random() < 0.5 else np.ascontiguousarray(crop)


def make_stack(images: Sequence[UInt8Image], side: int, seed: tuple[int, ...]) -> TrainingStack:
    """Simulate one stack; the same images and seed give the same stack."""
    rng = np.random.default_rng(seed)
    image, optics = random_crop(images, side, rng), random_optics(rng)
    height = uniform_height(
        image.shape[:2],
        random_depth_um(rng),
        rng,
        mpp=optics.mpp,
        correlation_um=float(rng.uniform(25, 90)),
    )
    # Layer 0 need not lie in the middle of the specimen.
    height += np.float32(rng.uniform(-1.0, 1.0))
    stack = simulate(image, height, rng, optics=optics, camera=random_camera(rng))
    blurred = blur_labels(optics, height, 0.0).astype(np.uint8)
    return TrainingStack(stack.planes, stack.truth_one, stack.truth_all, blurred)


def make_degraded(images: Sequence[UInt8Image], side: int, seed: tuple[int, ...]) -> TrainingStack:
    """Blur random regions of a sharp image (the paper's degradation model); all planes alike."""
    rng = np.random.default_rng(seed)
    image = random_crop(images, side, rng)
    blurred, mask = degrade(image, rng)
    return TrainingStack(np.stack([blurred] * 3), image, image, mask.astype(np.uint8))


def render_cache(
    folder: Path,
    images: Sequence[UInt8Image],
    count: int,
    seed: int,
    *,
    side: int,
    degraded: bool = False,
) -> list[StackFile]:
    """Render what is missing of ``count`` stacks into a folder and return all of them.

    Parameters
    ----------
    side
        Of a stack, in pixels.

    Raises
    ------
    StackError
        If the disk refuses, or the images are smaller than a stack.
    """
    smallest = min(min(image.shape[:2]) for image in images)
    if smallest < side:
        raise StackError(
            f"A sharp image is only {smallest} px wide; lower stack_px = {side} in the recipe."
        )
    folder.mkdir(parents=True, exist_ok=True)
    make = make_degraded if degraded else make_stack
    paths = stack_paths(folder, count, seed, side, degraded=degraded)
    missing = [(i, path) for i, path in enumerate(paths) if not is_whole(path)]
    if missing:
        log.info("rendering %d of %d stacks into %s", len(missing), count, folder)
        tasks = [(make, side, (seed, i), path) for i, path in missing]
        with ProcessPoolExecutor(initializer=_set_images, initargs=(list(images),)) as pool:
            for _ in pool.map(_render_one, tasks):
                pass
    return [StackFile(path) for path in paths]


def stack_paths(
    folder: Path, count: int, seed: int, side: int, *, degraded: bool = False
) -> list[Path]:
    """Return where :func:`render_cache` keeps its stacks."""
    kind = "degraded" if degraded else "stack"
    return [folder / f"{kind}-{side}-{seed}-{i:05}{SUFFIX}" for i in range(count)]


_images: list[UInt8Image] = []


def _set_images(images: list[UInt8Image]) -> None:
    """Give a worker process the images once, not with every task."""
    _images[:] = images


def _render_one(task: tuple[Maker, int, tuple[int, int], Path]) -> None:
    make, side, seed, path = task
    make(_images, side, seed).save(path)
