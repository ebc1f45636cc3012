"""One fixed classical detector of nuclei, by which pictures are compared.

Stain density above a threshold, then a watershed of the distance from the outline; none of it
learns.  Its settings were chosen on truth images of drawn smears that no test uses:
``python -m focusfuse_training.nuclei`` tries them and prints how each does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from napari_focusfuse.benchmark_definition import simulate_specimen
from napari_focusfuse.defocus import density_of, gaussian_blur
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.smear import PlantedNucleus, plant_smear

PACKAGE = "skimage"
"""What the detector needs: scikit-image, which comes with napari, and the SciPy it brings."""
TUNING_SEEDS = (1000, 1001, 1002, 1003)
"""Smears on which the detector was tuned; those of tests have smaller numbers."""


@dataclass(frozen=True)
class Detector:
    """Finds what is dark in red and in green: a nucleus is, whatever colour its cytoplasm has."""

    threshold: float = 0.60
    """Optical density (natural logarithm), the lesser of red's and green's.

    The middle of 0.55 to 0.65, where every nucleus of the tuning smears is found and nothing else.
    """
    smoothing_px: float = 1.0
    """Sigma of the Gaussian under which density is read."""
    least_area_px: int = 250
    """Smaller objects are debris: half the area of the smallest nucleus drawn, at 0.243 um."""
    apart_px: int = 10
    """Distance below which two maxima of the distance from the outline are one nucleus."""

    def detect(self, image: UInt8Image) -> Detections:
        """Find the nuclei of a (Y, X, 3) uint8 image."""
        from scipy import ndimage
        from skimage.feature import peak_local_max
        from skimage.segmentation import watershed

        density = gaussian_blur(density_of(image), self.smoothing_px)
        inside = ndimage.binary_fill_holes(density[..., :2].min(axis=2) > self.threshold)
        # Smoothed: a ragged outline has many small maxima.
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), 2.0)
        objects = ndimage.label(inside)[0]
        peaks = peak_local_max(
            depth, min_distance=self.apart_px, labels=objects, exclude_border=False
        )
        seeds = np.zeros(inside.shape, dtype=np.int32)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels = watershed(-depth, seeds, mask=inside)
        areas = np.bincount(labels.ravel(), minlength=len(peaks) + 1)[1:]
        kept = np.flatnonzero(areas >= self.least_area_px)
        centres = ndimage.center_of_mass(inside, labels, kept + 1) if kept.size else []
        return Detections(np.array(centres, dtype=np.float64).reshape(-1, 2), areas[kept])


@dataclass(frozen=True)
class Detections:
    """Nuclei found in a picture."""

    centres: npt.NDArray[np.float64]
    """(N, 2): y and x in pixels."""
    areas: npt.NDArray[np.int64]
    """(N,) in pixels."""

    def inside(self, shape: tuple[int, int], border: int) -> Detections:
        """Return those whose centre is at least ``border`` pixels from every side."""
        low, high = border, np.array(shape) - 1 - border
        kept = ((self.centres >= low) & (self.centres <= high)).all(axis=1)
        return Detections(self.centres[kept], self.areas[kept])


@dataclass(frozen=True)
class Found:
    """How detections compare with the nuclei that are there; adds up over pictures."""

    planted: int = 0
    """Nuclei that are there."""
    hits: int = 0
    """Of them, those that were found."""
    false_alarms: int = 0
    """Detections where there is no nucleus."""
    on_removed: int = 0
    """Of them, those in a cell without nucleus, where it would have been."""

    def __add__(self, other: Found) -> Found:
        return Found(
            self.planted + other.planted,
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.on_removed + other.on_removed,
        )

    @property
    def precision(self) -> float:
        """Share of the detections that are nuclei; 1 where nothing was found."""
        found = self.hits + self.false_alarms
        return self.hits / found if found else 1.0

    @property
    def recall(self) -> float:
        """Share of the nuclei that were found; 1 where there are none."""
        return self.hits / self.planted if self.planted else 1.0


@dataclass(frozen=True)
class Matching:
    """Which detection is which nucleus."""

    found: Found
    areas: tuple[int | None, ...]
    """Area in pixels of each planted place's detection, in their order; None: none there."""
    strays: npt.NDArray[np.float64]
    """(N, 2) centres of the false alarms."""


def match(detections: Detections, nuclei: Sequence[PlantedNucleus]) -> Matching:
    """Assign detections to places, nearest first, at most a nucleus' radius away.

    Each place takes one detection at most and each detection counts once, so that a nucleus found
    in two pieces is one hit and one false alarm.
    """
    places = np.array([(n.y, n.x) for n in nuclei]).reshape(-1, 2)
    radii = np.array([n.radius_px for n in nuclei])
    distances = np.linalg.norm(places[:, None] - detections.centres[None], axis=2)
    areas: list[int | None] = [None] * len(nuclei)
    free = np.ones(len(detections.areas), dtype=bool)
    for flat in np.argsort(distances, axis=None):
        place, detection = np.unravel_index(int(flat), distances.shape)
        near = distances[place, detection] <= radii[place]
        if near and free[detection] and areas[place] is None:
            areas[place] = int(detections.areas[detection])
            free[detection] = False
    removed = [nucleus.chromatin == "removed" for nucleus in nuclei]
    taken = [area is not None for area in areas]
    on_removed = sum(t for t, gone in zip(taken, removed, strict=True) if gone)
    strays = [detections.centres[free], places[np.array(taken, bool) & np.array(removed, bool)]]
    found = Found(
        planted=removed.count(False),
        hits=sum(taken) - on_removed,
        false_alarms=int(free.sum()) + on_removed,
        on_removed=on_removed,
    )
    return Matching(found, tuple(areas), np.concatenate(strays))


def tune(seeds: Sequence[int] = TUNING_SEEDS) -> list[tuple[Detector, Found, float]]:
    """Return detectors by how well they do on truth images, best first.

    Returns
    -------
    list of the detector, what it found, and its median area over the planted one
    """
    pictures = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        smear = plant_smear((512, 512), rng, depth_um=8.0)
        height = smear.specimen.height_map()
        truth = simulate_specimen(smear.specimen, height, rng, focus_um=(0.0,)).truth_one
        pictures.append((truth, smear.nuclei))
    tried = []
    for threshold, apart in product((0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8), (6, 10, 14)):
        detector = replace(Detector(), threshold=threshold, apart_px=apart)
        found, ratios = Found(), []
        for truth, nuclei in pictures:
            matching = match(detector.detect(truth), nuclei)
            found += matching.found
            pairs = zip(matching.areas, nuclei, strict=True)
            ratios += [area / n.area_px for area, n in pairs if area is not None and n.area_px]
        tried.append((detector, found, float(np.median(ratios)) if ratios else 0.0))
    return sorted(tried, key=lambda t: -min(t[1].precision, t[1].recall) + abs(t[2] - 1) / 10)


def main() -> int:
    """Print how each setting does."""
    print("threshold  apart  precision  recall  area over planted")  # noqa: T201
    for detector, found, area in tune():
        print(  # noqa: T201
            f"{detector.threshold:9.2f} {detector.apart_px:6} {found.precision:10.3f} "
            f"{found.recall:7.3f} {area:18.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
