"""Simulated training stacks, rendered once into a cache folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_focusfuse.benchmark_definition import simulate_specimen
from napari_focusfuse.defocus import (
    WAVELENGTHS_UM,
    Camera,
    Float32Array,
    Optics,
    Sheet,
    Specimen,
    blur_ratio,
    degrade,
    density_of,
    gaussian_blur,
    uniform_height,
)
from napari_focusfuse.metrics import grey
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.smear import draw_smear

from .masks import UNKNOWN
from .patch_cache import is_whole
from .stack import SUFFIX, StackError, StackFile, TrainingStack

log = logging.getLogger(__name__)

_CHANNELS = len(WAVELENGTHS_UM)
_SOURCE_MPP = 0.243
"""Of the data set's pictures, as far as anybody knows."""
_COMMON_MPP = 0.243
_DRAWN_UM = 249.0
"""Side of the field on which the benchmark draws its 24 cells."""
_IN_FOCUS = 0.15
"""Share of stacks whose layer 0 is sharp and must come out as it is."""
_RESAMPLE = Image.Resampling.LANCZOS
RANGES = (
    "numerical aperture 0.45 to 0.9, condenser half as wide to as wide",
    "refractive index 1.33 to 1.53, spherical aberration to 0.3 waves of either sign, red and blue "
    "focused up to 0.4 um apart",
    "pixels of 0.12 to 0.5 um, layers 0.5 to 3.2 um apart, one stack in four unevenly",
    "heights spread over plus and minus 2 to 12 um; 15 % of the stacks sharp and untouched",
    "shot noise of 3000 to 30000 electrons, JPEG of quality 70 to 96 or none, gamma 1 to 2.2, "
    "sharpening, vignetting, outer layers up to 0.7 px beside the middle one",
    "stains scaled and mixed in optical density, one field in ten grey, drawn cells over others",
)
"""What the random microscopes and specimens below span, for the cards of models."""
Maker = Callable[[Sequence[UInt8Image], int, tuple[int, ...]], TrainingStack]
"""Makes one stack from sharp images, its side in pixels and a seed."""


def random_optics(rng: np.random.Generator) -> Optics:
    """Draw a microscope: wider than the scanners there are, so that a model learns none of them."""
    na = float(rng.uniform(0.45, 0.9))
    return Optics(
        na=na,
        condenser_na=na * float(rng.uniform(0.5, 1.0)),
        refractive_index=float(rng.uniform(1.33, 1.53)),
        spherical_waves=float(rng.uniform(-0.3, 0.3)),
        chromatic_um=float(rng.uniform(-0.4, 0.4)),
        mpp=_log_uniform(0.12, 0.5, rng) if rng.random() < 0.6 else _COMMON_MPP,
    )


def random_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera, its processing and its compression."""
    return Camera(
        electrons=_log_uniform(3000, 30000, rng),
        read_electrons=float(rng.uniform(0, 12)),
        jpeg_quality=int(rng.integers(70, 97)) if rng.random() < 0.9 else None,
        subsampling="4:2:0" if rng.random() < 0.6 else "4:4:4",
        gamma=float(rng.uniform(1.0, 2.2)) if rng.random() < 0.4 else 1.0,
        vignetting=float(rng.uniform(0, 0.15)) if rng.random() < 0.4 else 0.0,
        sharpening=float(rng.uniform(0.1, 1.0)) if rng.random() < 0.3 else 0.0,
    )


def random_focus_um(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the heights of the planes: one stack in four has unequal gaps."""
    step = _log_uniform(0.5, 3.2, rng) if rng.random() < 0.6 else float(rng.uniform(2.0, 3.2))
    other = step * float(rng.uniform(0.6, 1.6)) if rng.random() < 0.25 else step
    return -step, 0.0, other


def random_depth_um(rng: np.random.Generator) -> float:
    """Draw the half range of heights of what is not flat."""
    return float(rng.uniform(2.0, 12.0))


def random_stain(image: UInt8Image, rng: np.random.Generator) -> UInt8Image:
    """Vary the stain: each channel's optical density is scaled, and channels are mixed a little."""
    transmission = (image.astype(np.float32) + 1.0) / 256.0
    gains = np.diag(rng.uniform(0.6, 1.5, _CHANNELS)) + rng.uniform(
        -0.15, 0.15, (_CHANNELS, _CHANNELS)
    )
    density = np.maximum(-np.log(transmission) @ gains.astype(np.float32), 0.0)
    return np.rint(np.exp(-density) * 255.0).astype(np.uint8)


def random_crop(
    images: Sequence[UInt8Image], side: int, rng: np.random.Generator, scale: float = 1.0
) -> UInt8Image:
    """Cut a square of a random image, turned and flipped at random; one in two keeps its stain.

    Parameters
    ----------
    scale
        Pixels of the image to one of the square, at most; less where the image is too small.
    """
    image = images[int(rng.integers(len(images)))]
    taken = min(round(side * scale), *image.shape[:2])
    y, x = (int(rng.integers(length - taken + 1)) for length in image.shape[:2])
    crop = np.rot90(image[y : y + taken, x : x + taken], int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if taken != side:
        resized = Image.fromarray(np.ascontiguousarray(crop)).resize((side, side), _RESAMPLE)
        crop = np.asarray(resized)
    return random_stain(crop, rng) if rng.random() < 0.5 else np.ascontiguousarray(crop)


def random_specimen(
    images: Sequence[UInt8Image], side: int, optics: Optics, gamma: float, rng: np.random.Generator
) -> tuple[Specimen, Float32Array]:
    """Draw what is imaged: a sharp field on a height map, drawn cells, or those over that.

    Returns
    -------
    the specimen, and the (Y, X) height that counts as each pixel's
    """
    depth, shape = random_depth_um(rng), (side, side)
    # Cells lie about as dense, whatever the pixel's size.
    cells = max(1, round(24 * (side * optics.mpp / _DRAWN_UM) ** 2))
    kind = rng.choice(("field", "drawn", "both"), p=(0.6, 0.15, 0.25))
    if kind == "drawn":
        smear = draw_smear(shape, rng, cells=cells, depth_um=depth, mpp=optics.mpp)
        return smear, smear.height_map()
    crop = random_crop(images, side, rng, optics.mpp / _SOURCE_MPP)
    if rng.random() < 0.1:
        crop = np.repeat(to_uint8(grey(crop) / 255.0)[..., None], 3, axis=2)
    height = uniform_height(
        shape, depth, rng, mpp=optics.mpp, correlation_um=float(rng.uniform(20, 90))
    )
    # A camera with a gamma has seen more contrast than its picture shows.
    field = Sheet(density_of(crop) * np.float32(gamma), height)
    if kind == "field":
        return Specimen(shape, (field,)), height
    over = draw_smear(shape, rng, cells=max(1, cells // 2), depth_um=depth, mpp=optics.mpp)
    both = Specimen(shape, (field, *over.sheets[1:]))  # without the drawn background
    return both, both.height_map()


def make_stack(images: Sequence[UInt8Image], side: int, seed: tuple[int, ...]) -> TrainingStack:
    """Simulate one stack; the same images and seed give the same stack."""
    rng = np.random.default_rng(seed)
    optics, camera, focus = random_optics(rng), random_camera(rng), random_focus_um(rng)
    sampling = np.array([*np.diff(focus), optics.mpp], dtype=np.float32)
    if rng.random() < _IN_FOCUS:
        return _in_focus(images, side, optics, camera, focus, sampling, rng)
    specimen, height = random_specimen(images, side, optics, camera.gamma, rng)
    # Layer 0 need not lie in the middle of the specimen.
    middle = float(rng.uniform(-1.0, 1.0))
    focus_um = [middle + z for z in focus]
    stack = simulate_specimen(
        specimen, height, rng, optics=optics, camera=camera, focus_um=focus_um
    )
    ratio = blur_ratio(optics, height - np.float32(middle))
    empty = ~shows_blur(stack.truth_one)
    planes = _shifted(stack.planes, rng) if rng.random() < 0.3 else stack.planes
    return TrainingStack(
        planes=planes,
        truth_one=stack.truth_one,
        truth_three=stack.truth_all,
        blurred=np.where(empty, UNKNOWN, ratio > 1).astype(np.uint8),
        blur_ratio=np.where(empty, np.nan, ratio).astype(np.float16),
        sampling=sampling,
    )


def shows_blur(truth: UInt8Image) -> npt.NDArray[np.bool_]:
    """Return where a (Y, X, 3) sharp picture holds anything whose blur could be seen.

    Local contrast, without most of the noise, of at least 2.5 grey levels: on empty glass nobody
    can tell how far it is out of focus.
    """
    smooth = gaussian_blur(grey(truth).astype(np.float32)[..., None], 1.5)
    mean = gaussian_blur(smooth, 6.0)
    variance = gaussian_blur((smooth - mean) ** 2, 6.0)[..., 0]
    return np.asarray(variance >= 2.5**2)


def _in_focus(
    images: Sequence[UInt8Image],
    side: int,
    optics: Optics,
    camera: Camera,
    focus: tuple[float, float, float],
    sampling: Float32Array,
    rng: np.random.Generator,
) -> TrainingStack:
    """Return a stack whose layer 0 is a sharp picture itself, untouched: what to return unchanged.

    Its neighbours are that picture out of focus, with noise of their own.
    """
    image = random_crop(images, side, rng)
    flat = np.zeros(image.shape[:2], dtype=np.float32)
    stack = simulate_specimen(
        Specimen.of_sheet(density_of(image) * np.float32(camera.gamma), flat),
        flat,
        rng,
        optics=optics,
        camera=camera,
        focus_um=focus,
    )
    planes = np.stack([stack.planes[0], image, stack.planes[2]])
    empty = ~shows_blur(image)
    ratio = np.where(empty, np.nan, blur_ratio(optics, flat)).astype(np.float16)
    blurred = np.where(empty, UNKNOWN, 0).astype(np.uint8)
    return TrainingStack(planes, image, image, blurred, ratio, sampling)


def _shifted(planes: UInt8Image, rng: np.random.Generator) -> UInt8Image:
    """Return planes of which the outer ones lie up to 0.7 px beside layer 0."""
    shifted = planes.copy()
    for index in (0, len(planes) - 1):
        shifted[index] = _moved(planes[index], *rng.uniform(-0.7, 0.7, 2))
    return shifted


def _moved(image: UInt8Image, dy: float, dx: float, padding: int = 16) -> UInt8Image:
    """Return a (Y, X, 3) image moved by less than ``padding`` pixels, its spectrum untouched."""
    pad = ((padding, padding), (padding, padding), (0, 0))
    wide = np.pad(image.astype(np.float32), pad, mode="reflect")
    rows, columns = np.fft.fftfreq(wide.shape[0]), np.fft.rfftfreq(wide.shape[1])
    phase = np.exp(-2j * np.pi * (dy * rows[:, None] + dx * columns[None]))[..., None]
    moved = np.fft.irfft2(np.fft.rfft2(wide, axes=(0, 1)) * phase, wide.shape[:2], axes=(0, 1))
    inner = moved[padding:-padding, padding:-padding]
    return to_uint8(np.asarray(inner / 255.0, dtype=np.float32))


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


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
