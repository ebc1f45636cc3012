"""How well blur models mark blur, rank it by its size, and find the sharpest of several planes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_focusfuse.defocus import Float32Array
from napari_focusfuse.fusion.neural import BlurDetector
from napari_focusfuse.slide import UInt8Image

from .blur_ranks import Agreement, sharpest_plane, spearman
from .controls import sharpness
from .masks import BoolImage, Confusion, foreground
from .simulation import shows_blur
from .task import Sample, mirrored

LAPLACIAN, ALL_BLURRED = "variance of Laplacian", "all blurred"
MIDDLE = "always the middle plane"
CELLS, SHOWN = ", cells", ", where it shows"
"""Follow a mask's name where only cells count, and where a sharp picture has any contrast: on empty
glass nobody can tell how far it is out of focus."""

Detectors = Mapping[str, BlurDetector]


@dataclass(frozen=True)
class BlurScores:
    """What one stack says of every blur mask, the controls' among them."""

    masks: dict[str, Confusion] = field(default_factory=dict)
    """Counts of each mask; on part of the pixels under its name and what follows."""
    ranks: dict[str, float] = field(default_factory=dict)
    """Spearman's correlation of its soft value with the distance from focus; the same names."""
    agreement: dict[str, Agreement] = field(default_factory=dict)
    """How far the plane it calls sharpest lies from that of most Laplacian energy, on cells."""


def blur_scores(detectors: Detectors, sample: Sample, threshold: float | None) -> BlurScores:
    """Score blur models on a stack: masks where its blur is known, else the order of its planes.

    Parameters
    ----------
    threshold
        Sharpness below which the control calls a pixel blurred; None: no such mask.
    """
    if not detectors:
        return BlurScores()
    if not sample.known.any():
        return BlurScores(agreement=_agreement(detectors, sample))
    soft = {name: blurred(detector, sample.layer0) for name, detector in detectors.items()}
    sharp = sharpness(sample.layer0)
    masks: dict[str, BoolImage] = {name: values >= 0.5 for name, values in soft.items()}
    if threshold is not None:
        masks[LAPLACIAN] = sharp < threshold
    masks[ALL_BLURRED] = np.ones_like(sample.blurred)
    return BlurScores(_counts(masks, sample), _ranks({**soft, LAPLACIAN: -sharp}, sample))


def blurred(detector: BlurDetector, layer: UInt8Image) -> Float32Array:
    """Return the (Y, X) probability that a (Y, X, 3) layer is blurred."""
    height, width = layer.shape[:2]
    padded = mirrored(layer[None], detector.info.multiple_of)
    return detector(padded[None].astype(np.float32) / 255.0)[0, :height, :width, 0]


def _counts(masks: Mapping[str, BoolImage], sample: Sample) -> dict[str, Confusion]:
    return {
        name + place: Confusion.of(mask, sample.blurred, where)
        for place, where in _places(sample).items()
        for name, mask in masks.items()
    }


def _ranks(soft: Mapping[str, Float32Array], sample: Sample) -> dict[str, float]:
    if sample.height_um is None:
        return {}
    distance = np.abs(sample.height_um)
    return {
        name + place: spearman(values, distance, where)
        for place, where in _places(sample).items()
        for name, values in soft.items()
    }


def _places(sample: Sample) -> dict[str, BoolImage]:
    """Return where pixels count, by what follows a mask's name."""
    known, truth = sample.known, sample.truth_one
    return {"": known, CELLS: known & foreground(truth), SHOWN: known & shows_blur(truth)}


def without_place(mask: str) -> tuple[str, str]:
    """Return the name of a mask, and what follows it."""
    place = next((place for place in (CELLS, SHOWN) if mask.endswith(place)), "")
    return mask.removesuffix(place), place


def _agreement(detectors: Detectors, sample: Sample) -> dict[str, Agreement]:
    planes, cells = sample.planes, foreground(sample.truth_one)
    truth = sharpest_plane(planes)
    found = {
        name: np.stack([blurred(detector, plane) for plane in planes]).argmin(axis=0)
        for name, detector in detectors.items()
    }
    found[LAPLACIAN] = np.stack([sharpness(plane) for plane in planes]).argmax(axis=0)
    found[MIDDLE] = np.full_like(truth, len(planes) // 2)
    return {name: Agreement.of(indices, truth, cells) for name, indices in found.items()}
