"""Forward model of a bright-field microscope: from a sharp specimen to a stack of focal planes.

The optics are a scalar pupil in incoherent light (Goodman, *Introduction to Fourier Optics*,
chapter 6; the defocus phase for high apertures after Gibson & Lanni 1991).  A partly closed
condenser is approximated by an incoherent system of effective aperture (NA_objective +
NA_condenser) / 2.  The specimen is a pile of thin absorbing slabs in optical density
(Beer-Lambert); its image at one focus is the product of the slabs' transmissions, each blurred by
the point spread function of its distance from focus.  Only numpy and Pillow are needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from .pixels import to_uint8
from .slide import UInt8Image

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

WAVELENGTHS_UM = (0.62, 0.53, 0.46)
"""Centre wavelengths of a colour camera's red, green and blue."""

_PUPIL_SAMPLES = 256
_BLURRED_FROM = 1.5
_SLAB_UM = 0.675  # a quarter of the scanner's step: the blur changes little within it


@dataclass(frozen=True)
class Optics:
    """A microscope, as far as the blur depends on it."""

    na: float = 0.8
    """Numerical aperture of the objective."""
    condenser_na: float | None = None
    """Numerical aperture of the condenser; None: equal to the objective's."""
    refractive_index: float = 1.515
    """Of the medium around the specimen."""
    spherical_waves: float = 0.0
    """Primary spherical aberration as a Zernike coefficient, in waves; a wrong cover glass."""
    chromatic_um: float = 0.0
    """How much deeper red focuses than blue, in um of specimen depth."""
    mpp: float = 0.243
    """Micrometres per pixel."""

    @property
    def effective_na(self) -> float:
        """Aperture of the incoherent system that stands for objective and condenser."""
        condenser = self.na if self.condenser_na is None else self.condenser_na
        return 0.5 * (self.na + condenser)


@dataclass(frozen=True)
class Camera:
    """What the scanner does to the light."""

    electrons: float = 8000.0
    """Electrons a white pixel collects: sets the shot noise."""
    read_electrons: float = 6.0
    """Standard deviation of the read noise, in electrons."""
    jpeg_quality: int | None = 90
    """Quality of the JPEG compression, or None for none."""
    subsampling: str = "4:2:0"
    """Of the JPEG's colours."""
    gamma: float = 1.0
    """Exponent by which intensity is root-compressed: values are intensity ** (1 / gamma)."""
    vignetting: float = 0.0
    """Share of the light that the corners lack."""
    sharpening: float = 0.0
    """Share of an unsharp mask of sigma 1 px that the scanner adds."""


@lru_cache(maxsize=4096)
def psf(
    optics: Optics, wavelength_um: float, defocus_um: float, pitch_um: float, samples: int
) -> Float64Array:
    """Return the intensity point spread function.

    Parameters
    ----------
    defocus_um
        Height of the point above the plane in focus.
    pitch_um
        Sampling distance; at most ``wavelength_um / (4 * optics.effective_na)`` avoids aliasing.
    samples
        Side of the result.

    Returns
    -------
    (samples, samples) float64 array, sum 1, centre at ``[samples // 2, samples // 2]``
    """
    frequency = np.fft.fftfreq(samples, pitch_um)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    radius2 = squared * (wavelength_um / optics.effective_na) ** 2  # 1 at the pupil's edge
    inside = radius2 <= 1.0
    sine2 = np.minimum(squared * (wavelength_um / optics.refractive_index) ** 2, 1.0)
    waves = optics.refractive_index * defocus_um / wavelength_um * (np.sqrt(1.0 - sine2) - 1.0)
    waves += optics.spherical_waves * (6 * radius2**2 - 6 * radius2 + 1)  # Zernike Z(4, 0)
    pupil = np.where(inside, np.exp(2j * np.pi * waves), 0.0)
    intensity = np.abs(np.fft.ifft2(pupil)) ** 2
    return np.fft.fftshift(intensity / intensity.sum())


@lru_cache(maxsize=4096)
def transfer_profile(
    optics: Optics, wavelength_um: float, defocus_um: float
) -> tuple[Float64Array, Float64Array]:
    """Return the optical transfer function along a radius: frequencies (1/um) and real values.

    The pupil is symmetric, so the transfer function is real; negative values are the contrast
    reversals of strong defocus.
    """
    pitch = wavelength_um / (4.5 * optics.effective_na)
    spread = psf.__wrapped__(optics, wavelength_um, defocus_um, pitch, _PUPIL_SAMPLES)
    line = np.fft.fft(np.fft.ifftshift(spread.sum(axis=0))).real  # projection-slice theorem
    half = _PUPIL_SAMPLES // 2
    return np.asarray(np.fft.fftfreq(_PUPIL_SAMPLES, pitch)[:half], np.float64), line[:half]


def encircled_radius_px(
    optics: Optics, defocus_um: float, fraction: float, wavelength_um: float = 0.55
) -> float:
    """Return the radius in pixels that holds ``fraction`` of a point's light."""
    oversampling, samples = 6, 512
    spread = psf(optics, wavelength_um, defocus_um, optics.mpp / oversampling, samples)
    y, x = np.indices(spread.shape) - samples // 2
    fine = 16  # bins per pixel
    rings = np.bincount(
        (np.hypot(y, x) * fine / oversampling).astype(np.int64).ravel(), spread.ravel()
    )
    return float(np.interp(fraction, np.cumsum(rings), (np.arange(rings.size) + 1) / fine))


def equivalent_sigma_px(optics: Optics, defocus_um: float) -> float:
    """Return the sigma of the Gaussian that holds half a point's light in the same radius."""
    return encircled_radius_px(optics, defocus_um, 0.5) / float(np.sqrt(2 * np.log(2)))


def blurred_from_px(optics: Optics) -> float:
    """Return the equivalent sigma from which a plane counts as blurred.

    Half as much again as in focus, which is reached about where the depth of field ends; one pixel
    where the optics resolve more than the pixels show.
    """
    return max(1.0, _BLURRED_FROM * equivalent_sigma_px(optics, 0.0))


def blur_ratio(optics: Optics, defocus_um: Float32Array) -> Float32Array:
    """Return the equivalent sigma over that from which a plane counts as blurred; any shape."""
    farthest = max(1.0, float(np.abs(defocus_um).max()))
    # Dense near focus, where the label changes.
    half = farthest * np.linspace(0.0, 1.0, 17) ** 1.5
    steps = np.concatenate([-half[:0:-1], half])
    sigmas = [equivalent_sigma_px(optics, step) for step in steps]
    return np.asarray(np.interp(defocus_um, steps, sigmas) / blurred_from_px(optics), np.float32)


@lru_cache(maxsize=64)
def blurred_beyond_um(optics: Optics) -> tuple[float, float]:
    """Return the defocus below and above focus from which a plane counts as blurred.

    Spherical aberration makes the two unequal in size.
    """
    sigma_px = blurred_from_px(optics)
    steps = np.arange(0.0, 3.01, 0.25)

    def crossing(sign: float) -> float:
        sigmas = np.array([equivalent_sigma_px(optics, sign * step) for step in steps])
        beyond = np.flatnonzero(sigmas > sigma_px)
        if beyond.size == 0:
            return sign * float(steps[-1])
        k = max(int(beyond[0]), 1)
        return sign * float(np.interp(sigma_px, sigmas[k - 1 : k + 1], steps[k - 1 : k + 1]))

    return crossing(-1.0), crossing(1.0)


def blur_labels(optics: Optics, height_um: Float32Array, focus_um: float) -> npt.NDArray[np.bool_]:
    """Return where a plane focused at ``focus_um`` is blurred, see :func:`blurred_from_px`.

    Parameters
    ----------
    height_um
        (Y, X) float32 height of the specimen.

    Returns
    -------
    (Y, X) bool array
    """
    below, above = blurred_beyond_um(optics)
    defocus = height_um - focus_um
    return (defocus < below) | (defocus > above)


@dataclass(frozen=True)
class Sheet:
    """A thin absorbing sheet, such as one cell, somewhere in a specimen."""

    density: Float32Array
    """(Y, X, 3) optical density (natural logarithm), not negative."""
    height_um: Float32Array
    """(Y, X) height of each of its points."""
    y: int = 0
    x: int = 0
    """Position of its first pixel in the specimen."""

    def share(self, index: int) -> Float32Array:
        """Return the (Y, X, 3) density that falls to one slab.

        Each point's density is shared linearly between the two nearest slabs.
        """
        distance = np.abs(self.height_um / _SLAB_UM - index)
        share = np.maximum(0.0, 1.0 - distance).astype(np.float32)
        return np.asarray(self.density * share[..., None])


@dataclass(frozen=True)
class Specimen:
    """Sheets that may overlap, each at its own height."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    sheets: tuple[Sheet, ...]

    @classmethod
    def of_sheet(cls, density: Float32Array, height_um: Float32Array) -> Specimen:
        """Return a specimen that is one sheet."""
        return cls(height_um.shape, (Sheet(density, height_um),))

    def slabs(self) -> Iterator[tuple[float, Float32Array]]:
        """Yield the height (um) and (Y, X, 3) density of each slab that absorbs anything."""
        spans = [
            (
                int(np.floor(s.height_um.min() / _SLAB_UM)),
                int(np.ceil(s.height_um.max() / _SLAB_UM)),
            )
            for s in self.sheets
        ]
        for index in sorted({i for low, high in spans for i in range(low, high + 1)}):
            slab = np.zeros((*self.shape, 3), dtype=np.float32)
            for sheet, (low, high) in zip(self.sheets, spans, strict=True):
                if low <= index <= high:
                    height, width = sheet.height_um.shape
                    slab[sheet.y : sheet.y + height, sheet.x : sheet.x + width] += sheet.share(
                        index
                    )
            if slab.any():
                yield index * _SLAB_UM, slab

    def density(self) -> Float32Array:
        """Return the (Y, X, 3) density of all sheets together, whatever their heights."""
        total = np.zeros((*self.shape, 3), dtype=np.float32)
        for sheet in self.sheets:
            height, width = sheet.height_um.shape
            total[sheet.y : sheet.y + height, sheet.x : sheet.x + width] += sheet.density
        return total

    def height_map(self) -> Float32Array:
        """Return the (Y, X) height of the densest sheet at each pixel; 0 where there is none."""
        densest = np.zeros(self.shape, dtype=np.float32)
        heights = np.zeros(self.shape, dtype=np.float32)
        for sheet in self.sheets:
            height, width = sheet.height_um.shape
            here = np.s_[sheet.y : sheet.y + height, sheet.x : sheet.x + width]
            density = sheet.density.mean(axis=2)
            denser = density > densest[here]
            densest[here] = np.where(denser, density, densest[here])
            heights[here] = np.where(denser, sheet.height_um, heights[here])
        return heights


def density_of(image: UInt8Image, white: float = 255.0) -> Float32Array:
    """Return the (Y, X, 3) float32 optical density of a uint8 image of linear intensity."""
    transmission = np.clip(image.astype(np.float32) / white, 1.0 / 512, 1.0)
    return np.asarray(-np.log(transmission), dtype=np.float32)


def render(
    specimen: Specimen, optics: Optics, focus_um: Sequence[float], padding: int = 48
) -> tuple[Float32Array, Float32Array]:
    """Image a specimen at several focus heights, without noise.

    Parameters
    ----------
    focus_um
        Height of each focal plane.
    padding
        Pixels by which the specimen is mirrored outward, against the wrap of the Fourier transform.

    Returns
    -------
    stack
        (Z, Y, X, 3) float32 linear intensity; 1 is white.
    truth
        (Y, X, 3) float32: every slab at its own focus, through the same optics.
    """
    height, width = specimen.shape
    pad = ((padding, padding), (padding, padding), (0, 0))
    shape = (height + 2 * padding, width + 2 * padding)
    images = np.ones((len(focus_um) + 1, *shape, 3), dtype=np.float32)
    frequency = np.hypot(
        np.fft.fftfreq(shape[0], optics.mpp)[:, None], np.fft.rfftfreq(shape[1], optics.mpp)[None]
    )
    for z_um, density in specimen.slabs():
        absorbed = np.exp(-np.pad(density, pad, mode="reflect")) - 1.0
        defocus = [z_um - focus for focus in focus_um] + [0.0]
        for channel, wavelength in enumerate(WAVELENGTHS_UM):
            spectrum = np.fft.rfft2(absorbed[..., channel])
            shift = optics.chromatic_um * (0.5 - channel / 2)
            for plane, dz in enumerate(defocus):
                # Rounded so that slabs and planes on one grid share their transfer functions.
                profile = transfer_profile(optics, wavelength, round(dz + shift, 3))
                transfer = np.interp(frequency, *profile, right=0.0).astype(np.float32)
                images[plane, ..., channel] *= 1.0 + np.fft.irfft2(spectrum * transfer, s=shape)
    inner = images[:, padding : padding + height, padding : padding + width]
    return inner[:-1], inner[-1]


def expose(light: Float32Array, noise: Float32Array, camera: Camera) -> UInt8Image:
    """Turn linear intensity into the scanner's 8-bit image.

    Parameters
    ----------
    light
        (Y, X, 3) float32; 1 is white.
    noise
        (Y, X, 3) float32 standard normal field; the same field gives the same grain.

    Returns
    -------
    (Y, X, 3) uint8 array
    """
    if camera.vignetting:
        light = light * _vignette(light.shape[:2], camera.vignetting)
    electrons = np.maximum(light, 0.0) * camera.electrons
    sigma = np.sqrt(electrons + camera.read_electrons**2) / camera.electrons
    values = np.asarray(light + noise * sigma, dtype=np.float32)
    if camera.gamma != 1.0:
        values = np.maximum(values, 0.0) ** np.float32(1 / camera.gamma)
    if camera.sharpening:
        values = values + np.float32(camera.sharpening) * (values - gaussian_blur(values, 1.0))
    return compress(to_uint8(values), camera)


def compress(image: UInt8Image, camera: Camera) -> UInt8Image:
    """Return a uint8 image as the camera's JPEG compression leaves it."""
    if camera.jpeg_quality is None:
        return image
    options = {"quality": camera.jpeg_quality, "subsampling": camera.subsampling}
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", **options)
    return np.asarray(Image.open(buffer))


def _vignette(shape: tuple[int, int], share: float) -> Float32Array:
    """Return the (Y, X, 1) light that reaches each pixel: falling with the squared radius."""
    y, x = (np.linspace(-1.0, 1.0, side, dtype=np.float32) for side in shape)
    return np.asarray(1 - np.float32(share / 2) * (y[:, None, None] ** 2 + x[None, :, None] ** 2))


def random_field(
    shape: tuple[int, int], correlation_px: float, rng: np.random.Generator
) -> Float32Array:
    """Return a Gaussian random field of autocorrelation ``exp(-(r / correlation_px)**2)``.

    Returns
    -------
    (Y, X) float32 array of zero mean and about unit variance
    """
    margin = int(2 * correlation_px)  # the transform wraps: keep its seam outside
    padded = (shape[0] + margin, shape[1] + margin)
    frequency2 = np.fft.fftfreq(padded[0])[:, None] ** 2 + np.fft.rfftfreq(padded[1])[None] ** 2
    # White noise under a Gaussian of sigma correlation / 2 has that autocorrelation.
    transfer = np.exp(-0.5 * (np.pi * correlation_px) ** 2 * frequency2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(padded)) * transfer, s=padded)
    field = field[: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def uniform_height(
    shape: tuple[int, int],
    depth_um: float,
    rng: np.random.Generator,
    *,
    mpp: float,
    correlation_um: float = 60.0,
) -> Float32Array:
    """Return a smooth (Y, X) height map in um whose values are uniform on +-``depth_um``."""
    field = random_field(shape, correlation_um / mpp, rng)
    ranks = np.empty(field.size, dtype=np.float32)
    ranks[np.argsort(field, axis=None)] = np.linspace(-1.0, 1.0, field.size, dtype=np.float32)
    return depth_um * ranks.reshape(shape)


def degrade(
    image: UInt8Image,
    rng: np.random.Generator,
    *,
    most: int = 6,
    sigma_px: tuple[float, float] = (1.0, 8.0),
) -> tuple[UInt8Image, npt.NDArray[np.bool_]]:
    """Blur random local regions: the degradation model that trains the paper's blur model.

    The paper (section 3.4) says "random local blurred areas" by Gaussian blur.  Here: one to
    ``most`` ellipses with feathered borders, sigma log-uniform on ``sigma_px``.

    Parameters
    ----------
    image
        (Y, X, 3) uint8 image in focus.

    Returns
    -------
    (Y, X, 3) uint8 image and its (Y, X) bool mask, true where at least half is blurred
    """
    height, width = image.shape[:2]
    out = image.astype(np.float32)
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(int(rng.integers(1, most + 1))):
        sigma = float(np.exp(rng.uniform(*np.log(sigma_px))))
        alpha = _ellipse(height, width, rng)
        blurred = gaussian_blur(image.astype(np.float32), sigma)
        out += alpha[..., None] * (blurred - out)
        mask |= alpha >= 0.5
    return np.rint(out).astype(np.uint8), mask


def _ellipse(height: int, width: int, rng: np.random.Generator) -> Float32Array:
    """Return a (Y, X) float32 opacity: 1 inside a random ellipse, falling to 0 over its feather."""
    centre = rng.uniform(0, 1, 2) * (height, width)
    radii = rng.uniform(0.08, 0.4, 2) * min(height, width)
    angle, feather = rng.uniform(0, np.pi), rng.uniform(2, 12)
    y, x = np.indices((height, width), dtype=np.float32)
    dy, dx = y - centre[0], x - centre[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    distance = (np.hypot(across / radii[0], along / radii[1]) - 1.0) * radii.min()
    return np.asarray(np.clip(0.5 - distance / feather, 0.0, 1.0), dtype=np.float32)


def gaussian_blur(image: Float32Array, sigma: float) -> Float32Array:
    """Return a (Y, X, C) image under a Gaussian of ``sigma`` pixels; edges are mirrored."""
    radius = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * image.ndim
        pad[axis] = (radius, radius)
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(image, pad, mode="symmetric"), kernel.size, axis=axis
        )
        image = np.asarray(windows @ kernel.astype(np.float32), dtype=np.float32)
    return image
