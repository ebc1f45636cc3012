"""Small slides as files, and jobs that fuse them whole."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_focusfuse.fusion.catalogue import method_info
from napari_focusfuse.fusion.method import Float32Image, FusionMethod
from napari_focusfuse.fusion.plan import FusionPlan, Preset, plan_fusion
from napari_focusfuse.fusion.planes import choose_planes
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Region
from napari_focusfuse.whole_slide import SlideJob, fuse_slide, slide_job
from napari_focusfuse.whole_slide.engine import SlideResult
from slide_files import write_ome
from textured_slide import blurred, texture

TINY = Preset("tiny", tile=656, margin=72, ramp=0)
"""Tiles 512 pixels apart, so that blocks of one tile are possible."""


def write_slide(path: Path, height: int = 1100, width: int = 1300, levels: int = 1) -> Path:
    """Write an OME-TIFF of three planes in which different strips are sharp."""
    sharp = texture(height, width)
    soft = blurred(sharp)
    owner = np.arange(width) * 3 // width
    stack = np.stack([np.where((owner == z)[None, :, None], sharp, soft) for z in range(3)])
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.7}
    return write_ome(path, stack, levels=levels, tile=256, compression=None, **sizes)


def plan_of(path: Path, method: str = "argmax", preset: Preset = TINY, **about: Any) -> FusionPlan:
    """Return the plan of a whole slide; its file is closed again."""
    with open_slide(path) as slide:
        info = method_info(method, 3)
        planes = choose_planes(slide, info, "three")
        whole = about.pop("region", Region(0, 0, *slide.levels[0].shape))
        return plan_fusion(slide, info, planes, 0, whole, preset, max_pixels=None, **about)


def job_for(path: Path, out: Path, **about: Any) -> SlideJob:
    """Return the job of fusing a slide whole to one file, in blocks of 512 pixels."""
    keywords = {"compression": "zstd", "device": "cpu", "block": 512} | about
    preset = keywords.pop("preset", TINY)
    plan = plan_of(path, keywords.pop("method", "argmax"), preset, **_of_plan(keywords))
    outputs = {"image": out} | keywords.pop("maps", {})
    return slide_job(plan, outputs, **keywords)


def _of_plan(keywords: dict[str, Any]) -> dict[str, Any]:
    return {"region": keywords.pop("region")} if "region" in keywords else {}


def run(job: SlideJob, **how: Any) -> SlideResult:
    """Run a job to its end."""
    steps = fuse_slide(job, **how)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def digest(path: Path) -> str:
    """Return a hash of a file, or of all files of a folder with their names."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    found = hashlib.sha256()
    for file in files:
        found.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


class Mean(FusionMethod):
    """The mean of the planes, by NumPy alone: a process with it can be forked and killed."""

    info = replace(method_info("argmax"), halo=0)

    def compute(self, stacks: Float32Image) -> Float32Image:
        return stacks.mean(axis=1)
