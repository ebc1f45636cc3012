"""Small slides of texture for the fusion tests, and methods of known behaviour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from napari_focusfuse.fusion.method import Float32Image, FusionMethod, MethodInfo
from napari_focusfuse.fusion.neural import NeuralMethod
from napari_focusfuse.fusion.plan import FusionPlan, plan_fusion
from napari_focusfuse.fusion.planes import choose_planes
from napari_focusfuse.models.swift import SwiftConfig, SwiftGenerator
from napari_focusfuse.readers.array import ArraySlide
from napari_focusfuse.slide import UInt8Image


def texture(height: int, width: int, seed: int = 0) -> UInt8Image:
    """(Y, X, 3) image with detail at several scales in every channel."""
    rng = np.random.default_rng(seed)
    scales = (0.5, 2.0, 6.0)
    layers = [
        gaussian_filter(rng.standard_normal((height, width, 3)), (sigma, sigma, 0)) * sigma
        for sigma in scales
    ]
    return np.clip(128 + 60 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


def stains(height: int, width: int) -> UInt8Image:
    """Return a smooth picture in pink and blue on white, (height, width, 3) uint8."""
    detail = gaussian_filter(texture(height, width)[..., :1].astype(np.float32), (4, 4, 0)) / 255
    patches = np.linspace(0, 20, width)[None, :, None] + np.linspace(0, 20, height)[:, None, None]
    blue = 0.5 + 0.5 * np.sin(patches)
    density = detail * ((1 - blue) * [0.1, 0.9, 0.3] + blue * [0.8, 0.6, 0.1])
    return np.rint(255 * np.exp(-density)).astype(np.uint8)


def blurred(image: UInt8Image, sigma: float = 3.0) -> UInt8Image:
    return gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)).round().astype(np.uint8)


def textured_slide(height: int = 300, width: int = 340, planes: int = 3, **about) -> ArraySlide:
    """A slide in whose planes different vertical strips are sharp."""
    sharp = texture(height, width)
    soft = blurred(sharp)
    owner = np.arange(width) * planes // width
    stack = [np.where((owner == z)[None, :, None], sharp, soft) for z in range(planes)]
    return ArraySlide(np.stack(stack), name="texture", **about)


def random_swift(planes: int = 1, gain: float = 0.2, dtype: str = "float32") -> NeuralMethod:
    """A small swift generator of random weights whose corrections are large enough to see."""
    torch.manual_seed(planes)
    config = SwiftConfig(planes, width=8, half_blocks=0, quarter_blocks=0, eighth_blocks=0)
    network = SwiftGenerator(config)
    torch.nn.init.normal_(network.tail.weight, std=gain)
    info = MethodInfo(
        name="random-swift",
        title="Random swift",
        kind="restoration",
        plane_offsets=(0,) if planes == 1 else tuple(range(-(planes // 2), planes // 2 + 1)),
        halo=network.reach,
        multiple_of=network.multiple_of,
        z_step_um=2.7,
        mpp=0.25,
    )
    return NeuralMethod(info, network, dtype=dtype)


def planned(slide, method, region, preset, **about) -> FusionPlan:
    """Plan a fusion of as many planes as the method takes."""
    count = len(method.info.plane_offsets or (0, 1, 2))
    wanted = "one" if count == 1 else "three"
    planes = choose_planes(slide, method.info, wanted)
    return plan_fusion(slide, method.info, planes, 0, region, preset, **about)


@dataclass
class Shifted(FusionMethod):
    """Shows the first plane moved right by exactly as many pixels as it says, or fails to say."""

    distance: int
    declared: int

    def __post_init__(self) -> None:
        self.info = MethodInfo("shifted", "Shifted", "selection", None, self.declared)

    def compute(self, stacks: Float32Image) -> Float32Image:
        return np.roll(stacks[:, 0], self.distance, axis=2)
