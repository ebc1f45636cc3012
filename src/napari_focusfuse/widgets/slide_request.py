"""A whole slide to be fused to files: planned, measured, said as a command; no window in here."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_focusfuse.fusion.catalogue import method_info
from napari_focusfuse.fusion.plan import SLIDE, FusionPlan, level_shape, nearest_level, plan_fusion
from napari_focusfuse.fusion.planes import choose_planes, offset_names
from napari_focusfuse.slide import FocusFuseError, Region, Slide
from napari_focusfuse.tiles import Tile
from napari_focusfuse.whole_slide.job import IMAGE, SlideJob, slide_job
from napari_focusfuse.writer import COMPRESSIONS, SUFFIXES

from .fuse_request import PlaneChoice, duration

SLIDE_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".png")
COMPRESSION_TITLES = {
    "jpeg": "JPEG, quality 90",
    "zstd": "Zstandard, without loss",
    "deflate": "Deflate, without loss",
}
assert set(COMPRESSION_TITLES) == set(COMPRESSIONS)

PYRAMID = 4 / 3
"""Pixels of all levels of a pyramid for each of its finest."""


class OutputNameError(FocusFuseError, ValueError):
    """The name given to the output cannot be used."""


@dataclass(frozen=True)
class SlideRequest:
    """The tab's fields, as values."""

    plan: FusionPlan
    output: Path
    maps: tuple[str, ...] = ()
    """Names of the maps to be written beside the picture."""
    compression: str = "jpeg"
    device: str = "auto"
    blur_model: Path | None = None
    """The blur model the user wants the mask from; None: the shipped one."""

    def job(self) -> SlideJob:
        """Return the job that the engine runs.

        Raises
        ------
        OutputNameError
            If the output is no name of a file that can be written.
        """
        return slide_job(
            self.plan,
            outputs_of(self.output, self.maps),
            compression=self.compression,
            device=self.device,
            blur_model=None if self.blur_model is None else str(self.blur_model),
        )


def whole_plan(slide: Slide, method: str, wanted: PlaneChoice, centre: int) -> FusionPlan:
    """Plan the fusion of a whole slide at the level nearest to the method's pixel size.

    Parameters
    ----------
    wanted, centre
        Which focus layers, and the index of the one at the slider.

    Raises
    ------
    FocusFuseError
        In one sentence, if it cannot be done.
    """
    if not slide.path.exists():
        raise FocusFuseError(
            f"{slide.path.name} is not a file; save it, and open the file, to fuse it whole."
        )
    count = {"one": 1, "three": 3, "all": len(slide.planes)}[wanted]
    info = method_info(method, count)
    middle = slide.planes[centre]
    planes = choose_planes(slide, info, wanted, middle)
    level = nearest_level(slide, info)
    whole = Region(0, 0, *level_shape(slide, level))
    return plan_fusion(slide, info, planes, level, whole, SLIDE, centre=middle, max_pixels=None)


def suggested_output(slide: Slide) -> Path:
    """Return a file beside the slide, named after it."""
    stem = slide.path.name.partition(".ome.")[0] if ".ome." in slide.path.name else slide.path.stem
    return slide.path.absolute().with_name(f"{stem}.fused{SLIDE_SUFFIXES[0]}")


def outputs_of(output: Path, maps: Sequence[str]) -> dict[str, Path]:
    """Return the picture's file and, beside it, one for each map: ``fused.mask.ome.tif``.

    Raises
    ------
    OutputNameError
        If the picture's name has no suffix that a whole slide is written to.
    """
    suffix = next((s for s in SLIDE_SUFFIXES if output.name.lower().endswith(s)), None)
    if suffix is None:
        raise OutputNameError(
            f"{output.name or 'The output'} has no suffix that a whole slide can be written to; "
            f"choose {', '.join(SLIDE_SUFFIXES)}."
        )
    stem, ending = output.name[: -len(suffix)], output.name[-len(suffix) :]
    beside = {name: output.with_name(f"{stem}.{name}{ending}") for name in maps}
    return {IMAGE: output, **beside}


def command(job: SlideJob) -> list[str]:
    """Return the command that runs a job, or goes on with it, in a process of its own."""
    offsets = ",".join(str(index - job.zero) for index in job.planes)
    region = job.region
    options = {
        "-o": job.outputs[IMAGE],
        "--method": job.method,
        "--zero": job.zero,
        "--level": job.level,
        "--compression": job.compression,
        "--device": job.device,
    }
    if job.blur_model is not None:
        options["--blur-model"] = job.blur_model
    words = [word for option, value in options.items() for word in (option, str(value))]
    if job.level == 0:  # in pixels of level 0; of others the whole is fused
        words += ["--region", f"{region.y},{region.x},{region.height},{region.width}"]
    for name, path in job.outputs.items():
        words += ["--map", f"{name}={path}"] if name != IMAGE else []
    # -P: a file of the current folder must not take the place of a module.
    program = [sys.executable, "-P", "-m", "napari_focusfuse.cli", "fuse", str(job.slide)]
    return [*program, f"--planes={offsets}", *words]


# ---------------------------------------------------------------------- before it starts


@dataclass(frozen=True)
class Sample:
    """What one tile took on this machine."""

    empty: int
    """Tiles of the slide that hold nothing but glass, which are not fused."""
    seconds: float
    """Of a tile: reading, fusing and encoding; 0 where all are empty."""
    pixel_bytes: float
    """Bytes of all outputs for each pixel."""


def measure(request: SlideRequest) -> Sample:
    """Find the empty tiles, and fuse one of the others; for a worker: torch is imported.

    Raises
    ------
    FocusFuseError
        If the slide cannot be read or the method cannot be loaded.
    """
    from napari_focusfuse.fusion.maps import load_fusion
    from napari_focusfuse.fusion.region import finish, run_fusion
    from napari_focusfuse.whole_slide.background import empty_tiles

    plan = request.plan
    empty = empty_tiles(plan)
    full = [tile for tile in plan.tiles if tile not in empty]
    if not full:
        return Sample(len(empty), 0.0, 0.0)
    blur = None if request.blur_model is None else str(request.blur_model)
    method, mappers = load_fusion(plan, request.maps, request.device, blur)
    seconds, size = 0.0, 0.0
    for tile in full[:2]:  # the first one only warms up
        began = time.perf_counter()
        alone = _one_tile(plan, tile)
        fusion = finish(run_fusion(alone, method, mappers))
        images = (fusion.image, *(fusion.maps[name] for name in request.maps))
        size = sum(_encoded(image, request.compression) for image in images)
        size /= alone.region.height * alone.region.width
        seconds = time.perf_counter() - began
    return Sample(len(empty), seconds, size)


def _one_tile(plan: FusionPlan, tile: Tile) -> FusionPlan:
    height, width = plan.slide.levels[plan.level].shape
    active = plan.grid.active
    region = Region(*plan.grid.active_origin(tile), active, active).clipped(height, width)
    return replace(plan, region=region, tiles=(tile,))


def _encoded(image: npt.NDArray[np.uint8] | npt.NDArray[np.float32], compression: str) -> int:
    """Return the bytes of an image's tiles."""
    from napari_focusfuse.writer import PyramidSpec, encode_tile

    picture = image.ndim == 3
    spec = PyramidSpec(
        image.shape[0],
        image.shape[1],
        samples=3 if picture else 1,
        dtype="float32" if image.dtype == np.float32 else "uint8",
        compression="deflate" if compression == "jpeg" and not picture else compression,
    )
    return sum(
        len(encode_tile(image[part.y : part.stop_y, part.x : part.stop_x], spec))
        for part in spec.regions(0)
    )


def describe(request: SlideRequest, sample: Sample | None, free: int | None) -> str:
    """Return in one line what Start will do, and what it will take.

    Parameters
    ----------
    sample
        What :func:`measure` found, None while it is looking.
    free
        Bytes free where the output goes, None if unknown.
    """
    return " · ".join(_facts(request, sample, free))


def _facts(request: SlideRequest, sample: Sample | None, free: int | None) -> Iterator[str]:
    plan = request.plan
    yield f"layers {offset_names(plan.slide, plan.planes)}"
    yield f"{plan.mpp[0]:.2f} um/px" if plan.mpp is not None else "pixel size unknown"
    yield f"{plan.region.width:,} x {plan.region.height:,} px"
    tiles = f"{len(plan.tiles):,} tile{'s' if len(plan.tiles) > 1 else ''}"
    if sample is None:
        yield tiles
        yield "measuring time and disk on one tile …"
        return
    left = len(plan.tiles) - sample.empty
    empty = f", {sample.empty:,} of them empty glass" if sample.empty else ""
    yield f"{tiles}{empty}"
    yield f"about {duration(left * sample.seconds)}, by one tile fused here"
    bytes_ = disk_bytes(request, sample)
    room = "" if free is None else f" ({size(free)} free)"
    yield f"about {size(bytes_)}, and as much again until it is done{room}"


def disk_bytes(request: SlideRequest, sample: Sample) -> float:
    """Return about how many bytes the outputs will take."""
    region = request.plan.region
    share = 1 - sample.empty / len(request.plan.tiles)
    return region.height * region.width * share * sample.pixel_bytes * PYRAMID


def too_little_room(request: SlideRequest, sample: Sample, free: int | None) -> str:
    """Return a sentence if the disk is too small, else nothing."""
    need = 2 * disk_bytes(request, sample)
    if free is None or need <= free:
        return ""
    return f"{size(need)} are needed in {request.output.parent} and {size(free)} are free"


def free_bytes(output: Path) -> int | None:
    """Return the free room where an output goes, or None if the folder is not there."""
    try:
        return shutil.disk_usage(output.parent).free
    except OSError:
        return None


def size(count: float) -> str:
    """Return bytes as people say them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


def writable(outputs: Mapping[str, Path]) -> str:
    """Return why the outputs cannot be written, in one sentence, or nothing."""
    folder = next(iter(outputs.values())).parent
    if not folder.is_dir():
        return f"The folder {folder} does not exist; make it, or choose another."
    if not os.access(folder, os.W_OK):
        return f"The folder {folder} cannot be written to; choose another."
    there = next((path for path in outputs.values() if path.exists()), None)
    return "" if there is None else f"{there.name} exists already; choose another name."
