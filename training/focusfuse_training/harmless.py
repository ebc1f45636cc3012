"""Whether a method leaves alone what needs nothing: sharp fields, and inputs that hold no cells.

One plane is given as it is; to methods of three, three equal planes, and the plane between two that
are defocused by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_focusfuse.benchmark_definition import OPTICS, Z_STEP_UM, DataSet, Part
from napari_focusfuse.defocus import Float32Array, Specimen, density_of, render
from napari_focusfuse.error_bands import beyond_range, split
from napari_focusfuse.metrics import luma
from napari_focusfuse.metrics import score as _score
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import UInt8Image

from .material import squares_in
from .scoring import Entry
from .task import Sample
from .worst_cases import Case

SIDE_PX = 256
"""Of the inputs that are made."""
_CROP_PX = 768
_CROPS = 4
"""Of a slide or picture of the user's own, so many squares of that side."""
_SHOWN_PX = 96
_AMPLIFIED = 8
EQUAL, BETWEEN = "three equal planes", "between two defocused planes"
SINGLE = "one plane"
MADE = "made"
"""The group of the inputs that are no pictures of anything."""


@dataclass(frozen=True)
class Change:
    """How an output differs from an input that needed nothing; lengths in grey levels."""

    psnr: float
    """dB; infinite if nothing changed."""
    mean: float
    """Mean absolute difference of the colour values."""
    largest: float
    new: float
    """Farthest that a value leaves the input's range in the 5 x 5 pixels around it."""
    middle: float
    """RMS difference of detail of 1.5 to 8 px."""
    fine_ratio: float
    """Contrast of detail below 1.5 px over the input's; NaN where the input has none."""

    @classmethod
    def between(cls, output: UInt8Image, given: UInt8Image) -> Change:
        """Compare a (Y, X, 3) output with its input."""
        difference = output.astype(np.float32) - given
        distances = np.abs(difference)
        fine, fine_given = (float(split(luma(i))[0].std()) for i in (output, given))
        return cls(
            psnr=_score(output, given)["PSNR"],
            mean=float(distances.mean()),
            largest=float(distances.max()),
            new=float(beyond_range(output, given).max()),
            middle=float(split(luma(difference))[1].std()),
            fine_ratio=fine / fine_given if fine_given > _LEAST_DETAIL else math.nan,
        )


_LEAST_DETAIL = 0.3
"""Grey levels: what rounding to 8 bits leaves of a smooth picture."""


@dataclass(frozen=True)
class HarmlessResult:
    """What became of one input."""

    group: str
    """What is summed up: the data set's part, or ``"made"``."""
    name: str
    rows: Mapping[tuple[str, str], Change]
    """(method, how it was given) -> change."""
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class HarmlessTask:
    """One sharp input."""

    group: str
    name: str
    image: UInt8Image

    def run(self, rows: Sequence[Entry]) -> HarmlessResult:
        """Give it to every method in every way that suits the method."""
        stacks = {SINGLE: self.image[None]}
        if any(row.planes > 1 for row in rows):
            stacks[EQUAL] = np.stack([self.image] * 3)
            stacks[BETWEEN] = _between(self.image)
        changes, cases = {}, []
        for row in rows:
            for way, planes in stacks.items():
                if (way == SINGLE) == (row.planes == 1):
                    fused = row.fuse(_sample(planes))
                    changes[row.name, way] = Change.between(fused, self.image)
                    cases.append(self._case(row.name, way, fused))
        return HarmlessResult(self.group, self.name, changes, tuple(cases))

    def _case(self, row: str, way: str, fused: UInt8Image) -> Case:
        """Return the place that changed most."""
        distance = np.abs(fused.astype(np.int16) - self.image).max(axis=2)
        y, x = np.unravel_index(int(distance.argmax()), distance.shape)
        height, width = distance.shape
        top = min(max(0, int(y) - _SHOWN_PX // 2), max(0, height - _SHOWN_PX))
        left = min(max(0, int(x) - _SHOWN_PX // 2), max(0, width - _SHOWN_PX))
        cut = np.s_[top : top + _SHOWN_PX, left : left + _SHOWN_PX]
        given, made = self.image[cut].copy(), fused[cut].copy()
        difference = np.clip(128 + _AMPLIFIED * (made.astype(np.int16) - given), 0, 255)
        caption = f"{self.name}, {way}, {int(distance.max())} levels at ({y}, {x})"
        return Case(row, float(distance.max()), caption, (given, made, difference.astype(np.uint8)))


def _sample(planes: UInt8Image) -> Sample:
    image = planes[len(planes) // 2]
    nowhere = np.zeros(image.shape[:2], dtype=np.bool_)
    heights = (-Z_STEP_UM, 0.0, Z_STEP_UM) if len(planes) == 3 else (0.0,)
    return Sample(planes, image, image, nowhere, ~nowhere, heights_um=heights, mpp=OPTICS.mpp)


def _between(image: UInt8Image) -> UInt8Image:
    """Put a plane between what the optics would show of it one step above and below.

    Those have no noise of their own: to swap noise for noise would count as a change.
    """
    flat = np.zeros(image.shape[:2], dtype=np.float32)
    specimen = Specimen.of_sheet(density_of(image), flat)
    (below, above), _ = render(specimen, OPTICS, (-Z_STEP_UM, Z_STEP_UM))
    return np.stack([to_uint8(below), image, to_uint8(above)])


# ---------------------------------------------------------------------- inputs


def fields(images: DataSet, folder: Path) -> list[HarmlessTask]:
    """Return every field of a data set, by its part.

    Raises
    ------
    DataError
        If the folder lacks one.
    """
    return [
        HarmlessTask(f"{images.name}, {part}", name, image)
        for part in get_args(Part)
        for name, image in zip(images.images[part], images.read(folder, part), strict=True)
    ]


def own_pictures(path: Path) -> list[HarmlessTask]:
    """Return squares of a slide's layer 0, or of a picture.

    Raises
    ------
    SlideError
        If it cannot be read.
    """
    with open_slide(path) as slide:
        squares = squares_in(slide.levels[0].shape, 0, _CROP_PX, _CROPS)
        return [
            HarmlessTask(
                path.name,
                f"{path.name} ({s.y}, {s.x})",
                slide.read_region(slide.planes[slide.zero], 0, s.y, s.x, s.side, s.side),
            )
            for s in squares
        ]


def made(seed: int = 0, side: int = SIDE_PX) -> list[HarmlessTask]:
    """Return inputs without cells, each from random numbers of its own."""
    inputs: dict[str, Callable[[np.random.Generator, int], UInt8Image]] = {
        "constant grey": partial(_constant, (128, 128, 128)),
        "constant stain": partial(_constant, (187, 122, 164)),
        "saturated white": partial(_constant, (255, 255, 255)),
        "saturated black": partial(_constant, (0, 0, 0)),
        **{f"noise, sigma {sigma}": partial(_noise, sigma) for sigma in (1, 3, 10, 30)},
        "text": _text,
        "round field": _round_field,
        "vignetted background": _vignetted,
    }
    return [
        HarmlessTask(MADE, name, make(np.random.default_rng((seed, number)), side))
        for number, (name, make) in enumerate(inputs.items())
    ]


def _constant(colour: tuple[int, int, int], rng: np.random.Generator, side: int) -> UInt8Image:
    return np.full((side, side, 3), colour, dtype=np.uint8)


def _noise(sigma: float, rng: np.random.Generator, side: int) -> UInt8Image:
    values = 200 + sigma * rng.standard_normal((side, side, 3), dtype=np.float32)
    return to_uint8(values / 255)


def _text(rng: np.random.Generator, side: int) -> UInt8Image:
    """Write black words on white, as a label or a scale bar shows them; edges are smooth."""
    picture = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(picture)
    for line, y in enumerate(range(8, side - 24, 24)):
        words = "".join(chr(int(code)) for code in rng.integers(33, 127, 24))
        draw.text((8, y), words, fill=0, font=ImageFont.load_default(size=10 + line % 4 * 3))
    draw.rectangle((side // 4, side - 14, 3 * side // 4, side - 8), fill=0)
    return np.repeat(np.asarray(picture)[..., None], 3, axis=2)


def _round_field(rng: np.random.Generator, side: int) -> UInt8Image:
    """Draw what a camera sees through an eyepiece: a bright disc, black around it."""
    y, x = np.indices((side, side), dtype=np.float32) - (side - 1) / 2
    inside = np.clip(0.42 * side - np.hypot(y, x) + 0.5, 0, 1)[..., None]
    light = inside * np.array([0.93, 0.91, 0.86], dtype=np.float32) + 0.01
    return _grained(np.asarray(light, dtype=np.float32), rng)


def _vignetted(rng: np.random.Generator, side: int) -> UInt8Image:
    """Draw empty glass, a twentieth darker in the corners."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for _ in range(2))
    fall = 1 - 0.025 * (y[:, None, None] ** 2 + x[None, :, None] ** 2)
    return _grained(fall * np.array([0.95, 0.94, 0.92], dtype=np.float32), rng)


def _grained(light: Float32Array, rng: np.random.Generator) -> UInt8Image:
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    return to_uint8(light + 0.004 * grain * np.sqrt(light))
