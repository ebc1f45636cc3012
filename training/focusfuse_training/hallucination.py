"""Whether a method invents or erases nuclei and chromatin: smears of which every nucleus is known.

Nuclei are planted, left out, and given smooth or coarse chromatin.  One fixed classical detector
looks for them in the truth image, in layer 0, and in what each method makes of the stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_focusfuse.benchmark_definition import BORDER_PX, OPTICS, simulate_specimen
from napari_focusfuse.defocus import Float32Array
from napari_focusfuse.error_bands import split
from napari_focusfuse.metrics import luma
from napari_focusfuse.reblur import reblur_residual
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.smear import PlantedNucleus, plant_smear

from .nuclei import Detector, Found, Matching, match
from .scoring import Entry
from .task import Sample
from .worst_cases import Case

SIDE_PX = 512
DEPTHS_UM = (4.0, 8.0)
TRUTH_OF = {1: "truth (of one plane)", 3: "truth (of three planes)"}
_SHOWN_PX = 96
_CORE = 0.7
"""Share of a nucleus' radius within which its chromatin is compared: its border is left out."""
_ALTERED = ("usual", "smooth", "coarse")


@dataclass(frozen=True)
class Texture:
    """Chromatin of many nuclei, detail of 1.5 to 8 px within them; sums that add up."""

    values: int = 0
    contrast: float = 0.0
    """Sum of squares, grey levels."""
    truth: float = 0.0
    """The same of the truth."""
    error: float = 0.0
    """The same of the difference."""

    def __add__(self, other: Texture) -> Texture:
        return Texture(
            self.values + other.values,
            self.contrast + other.contrast,
            self.truth + other.truth,
            self.error + other.error,
        )

    def rms(self, total: float) -> float:
        """Return the root of the mean of a sum of squares, in grey levels."""
        return float(np.sqrt(total / self.values)) if self.values else float("nan")


@dataclass(frozen=True)
class RowResult:
    """What was found in the pictures of one row; adds up."""

    found: Found = field(default_factory=Found)
    areas: tuple[float, ...] = ()
    """Area of each nucleus that was found over its area in the truth image."""
    chromatin: Mapping[str, Texture] = field(default_factory=dict)
    """Usual, smooth or coarse -> its contrast and its error."""
    tiles: int = 0
    flagged: int = 0
    """Tiles that the re-blur check flags."""

    def __add__(self, other: RowResult) -> RowResult:
        kinds = dict.fromkeys((*self.chromatin, *other.chromatin))
        return RowResult(
            self.found + other.found,
            self.areas + other.areas,
            {
                kind: self.chromatin.get(kind, Texture()) + other.chromatin.get(kind, Texture())
                for kind in kinds
            },
            self.tiles + other.tiles,
            self.flagged + other.flagged,
        )

    @property
    def area_bias(self) -> float:
        """Mean of the areas over those in the truth image, less one."""
        return float(np.mean(self.areas)) - 1 if self.areas else float("nan")

    def texture(self, kinds: Sequence[str] = _ALTERED) -> Texture:
        """Return the chromatin of some kinds of nuclei together."""
        return sum((self.chromatin.get(kind, Texture()) for kind in kinds), Texture())


@dataclass(frozen=True)
class PlantedResult:
    """What one smear showed."""

    depth_um: float
    rows: Mapping[str, RowResult]
    cases: tuple[Case, ...]
    """The worst nucleus of each row."""


@dataclass(frozen=True)
class PlantedTask:
    """One smear to draw and to fuse by everything."""

    depth_um: float
    seed: int
    side: int = SIDE_PX

    def render(self) -> tuple[Sample, tuple[PlantedNucleus, ...]]:
        """Return the stack of three planes and its nuclei."""
        rng = np.random.default_rng(self.seed)
        shape = (self.side, self.side)
        smear = plant_smear(shape, rng, depth_um=self.depth_um, mpp=OPTICS.mpp, margin=BORDER_PX)
        height = smear.specimen.height_map()
        stack = simulate_specimen(smear.specimen, height, rng)
        everywhere = np.ones(shape, dtype=np.bool_)
        sample = Sample(
            stack.planes,
            stack.truth_one,
            stack.truth_all,
            ~everywhere,
            everywhere,
            height,
            stack.focus_um,
            OPTICS.mpp,
        )
        return sample, smear.nuclei

    def run(self, rows: Sequence[Entry]) -> PlantedResult:
        """Draw, fuse, and look for nuclei."""
        sample, nuclei = self.render()
        truths = {planes: _Picture.of(sample.truth(planes), nuclei) for planes in TRUTH_OF}
        results = {name: truths[n].compared(truths[n]) for n, name in TRUTH_OF.items()}
        cases = []
        for row in rows:
            truth, fused = truths[row.planes if row.planes == 1 else 3], row.fuse(sample)
            picture = _Picture.of(fused, nuclei)
            check = reblur_residual(sample.layer0, fused).flagged
            found = picture.compared(truth)
            results[row.name] = RowResult(
                found.found, found.areas, found.chromatin, check.size, int(check.sum())
            )
            cases.append(_worst(row.name, picture, truth, sample.layer0, self))
        return PlantedResult(self.depth_um, results, tuple(cases))


@dataclass(frozen=True)
class _Picture:
    """A picture with what the detector finds in it."""

    image: UInt8Image
    nuclei: Sequence[PlantedNucleus]
    matching: Matching
    detail: Float32Array

    @classmethod
    def of(cls, image: UInt8Image, nuclei: Sequence[PlantedNucleus]) -> _Picture:
        found = Detector().detect(image).inside(image.shape[:2], BORDER_PX)
        return cls(image, nuclei, match(found, nuclei), split(luma(image))[1])

    def compared(self, truth: _Picture) -> RowResult:
        pairs = zip(self.matching.areas, truth.matching.areas, self.nuclei, strict=True)
        areas = tuple(
            own / of_truth
            for own, of_truth, nucleus in pairs
            if own is not None and of_truth is not None and nucleus.chromatin != "removed"
        )
        chromatin: dict[str, Texture] = {}
        for nucleus, texture in self.textures(truth):
            kind = nucleus.chromatin
            chromatin[kind] = chromatin.get(kind, Texture()) + texture
        return RowResult(self.matching.found, areas, chromatin)

    def textures(self, truth: _Picture) -> Iterator[tuple[PlantedNucleus, Texture]]:
        """Yield every nucleus that is there with the chromatin in its core."""
        for nucleus in self.nuclei:
            if nucleus.chromatin != "removed":
                own, wanted = (_core(p.detail, nucleus) for p in (self, truth))
                sums = (float((v**2).sum()) for v in (own, wanted, own - wanted))
                yield nucleus, Texture(own.size, *sums)


def _core(detail: Float32Array, nucleus: PlantedNucleus) -> npt.NDArray[np.float64]:
    """Return the detail inside a nucleus less the mean at each distance from its centre.

    That mean is the nucleus itself, dark on light; what is left is its chromatin.
    """
    reach = int(nucleus.radius_px) + 1
    top, left = round(nucleus.y) - reach, round(nucleus.x) - reach
    part = detail[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    y, x = np.indices(part.shape)
    distance = np.hypot(y + top - nucleus.y, x + left - nucleus.x)
    core = distance <= _CORE * nucleus.radius_px
    rings, values = distance[core].astype(np.int64), part[core].astype(np.float64)
    means = np.bincount(rings, values) / np.maximum(np.bincount(rings), 1)
    return np.asarray(values - means[rings], dtype=np.float64)


def _worst(
    row: str, picture: _Picture, truth: _Picture, layer0: UInt8Image, task: PlantedTask
) -> Case:
    """Return the place of a picture where it is most wrong about a nucleus."""
    places: list[tuple[float, str, float, float]] = [
        (3.0, "nucleus that is not there", y, x) for y, x in picture.matching.strays
    ]
    pairs = zip(picture.matching.areas, truth.matching.areas, picture.nuclei, strict=True)
    for own, of_truth, nucleus in pairs:
        if of_truth is None or nucleus.chromatin == "removed":
            continue
        if own is None:
            places.append((2.0, "nucleus lost", nucleus.y, nucleus.x))
        else:
            bias = own / of_truth - 1
            places.append((abs(bias), f"area {bias:+.0%}", nucleus.y, nucleus.x))
    badness, what, y, x = max(places, default=(0.0, "no nucleus", 0.0, 0.0))
    half = _SHOWN_PX // 2
    height, width = layer0.shape[:2]
    top = min(max(0, round(y) - half), max(0, height - _SHOWN_PX))
    left = min(max(0, round(x) - half), max(0, width - _SHOWN_PX))
    cut = np.s_[top : top + _SHOWN_PX, left : left + _SHOWN_PX]
    caption = f"{what}, +-{task.depth_um:g} um, seed {task.seed}, ({top}, {left})"
    pictures = (layer0[cut].copy(), picture.image[cut].copy(), truth.image[cut].copy())
    return Case(row, badness, caption, pictures)
