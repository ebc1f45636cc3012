"""``focusfuse fuse`` and ``focusfuse mask``: a region or a small slide to a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from napari_focusfuse.slide import FocusFuseError, PlaneError, Region, RegionError, Slide

from .options import (
    BlurModelOption,
    CompressionOption,
    DeviceOption,
    LevelOption,
    MethodOption,
    OutOption,
    OverwriteOption,
    PlanesOption,
    RegionOption,
    SlidesArgument,
    UsageError,
    ZeroOption,
    parse_maps,
    parse_planes,
    parse_region,
)
from .outputs import Job, plan_jobs
from .terminal import complain, messages, say, warn

if TYPE_CHECKING:
    from napari_focusfuse.fusion.neural import BlurDetector
    from napari_focusfuse.fusion.plan import FusionPlan
    from napari_focusfuse.fusion.planes import Wanted
    from napari_focusfuse.fusion.region import Fusion

MAX_PIXELS = 64 << 20
"""Most pixels fused in one go: the sums are held in memory, about 1.6 GB for this many."""

SOME_FAILED = 2


@dataclass(frozen=True)
class Request:
    """What is asked of every slide of a call."""

    method: str
    planes: Wanted
    zero: int | None = None
    region: Region | None = None
    """In pixels of level 0; None: all of it."""
    level: int = 0
    device: str = "auto"
    mask: bool = False
    blur_model: str | None = None
    """Name or file of what makes the mask; None: the default."""
    compression: str = "jpeg"
    overwrite: bool = False


def fuse(
    slides: SlidesArgument,
    out: OutOption,
    method: MethodOption = "swift",
    planes: PlanesOption = None,
    zero: ZeroOption = None,
    region: RegionOption = None,
    level: LevelOption = 0,
    mask: Annotated[
        Path | None, typer.Option("--mask", metavar="OUT", help="Write layer 0's blur mask too.")
    ] = None,
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="NAME=OUT", help="Write a map: mask.")
    ] = None,
    blur_model: BlurModelOption = None,
    compression: CompressionOption = "jpeg",
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Fuse focus layers of a region, or of a small slide, into one image."""
    mask = parse_maps(maps or (), names=("mask",)).get("mask", mask)
    request = Request(
        method=method,
        planes=parse_planes(planes),
        zero=zero,
        region=parse_region(region),
        level=level,
        device=device,
        mask=mask is not None,
        blur_model=blur_model,
        compression=compression,
        overwrite=overwrite,
    )
    _run_all(plan_jobs(slides, out, mask), request)


def mask(
    slides: SlidesArgument,
    out: OutOption,
    zero: ZeroOption = None,
    region: RegionOption = None,
    level: LevelOption = 0,
    blur_model: BlurModelOption = None,
    compression: CompressionOption = "deflate",
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Write how blurred layer 0 is: 255 x P(blurred) at every pixel."""
    request = Request(
        # The cheapest method there is: of one layer it returns that layer.
        method="argmax",
        planes="one",
        zero=zero,
        region=parse_region(region),
        level=level,
        device=device,
        mask=True,
        blur_model=blur_model,
        compression=compression,
        overwrite=overwrite,
    )
    _run_all(plan_jobs(slides, None, out), request)


def _run_all(jobs: Sequence[Job], request: Request) -> None:
    """Run every job; with several, a bad slide is reported and the others go on."""
    _check_outputs(jobs, request)
    failed = 0
    for job in jobs:
        try:
            _run(job, request)
        except (FocusFuseError, OSError) as error:
            if len(jobs) == 1:
                raise
            failed += 1
            complain(f"{job.slide.name}: {error}")
    if failed:
        complain(f"{failed} of {len(jobs)} slides failed.")
        raise typer.Exit(SOME_FAILED)


def _check_outputs(jobs: Sequence[Job], request: Request) -> None:
    from napari_focusfuse.writer import COMPRESSIONS, check_output

    if request.compression not in COMPRESSIONS:
        raise UsageError(
            f"There is no compression {request.compression!r}; choose {', '.join(COMPRESSIONS)}."
        )
    for job in jobs:
        for path in job.outputs:
            check_output(path, overwrite=request.overwrite)


def _run(job: Job, request: Request) -> None:
    from napari_focusfuse.readers import open_slide

    started = time.monotonic()
    with open_slide(job.slide, zero=request.zero) as slide:
        plan = plan_request(slide, request)
        for sentence in (*slide.warnings, *plan.warnings):
            warn(sentence)
        fusion = run_request(plan, request)
    _write(job, fusion, request)
    say_provenance(fusion.provenance, time.monotonic() - started)


def plan_request(slide: Slide, request: Request) -> FusionPlan:
    """Return the plan for one open slide; reads no pixel.

    Raises
    ------
    PlaneError, RegionError, UnknownMethodError
        If the slide has no such focus layers or region, or there is no such method.
    """
    from napari_focusfuse.fusion.catalogue import method_info
    from napari_focusfuse.fusion.plan import plan_fusion
    from napari_focusfuse.fusion.planes import choose_planes

    wanted = request.planes
    counts = {"one": 1, "three": 3, "all": len(slide.planes)}
    count = counts[wanted] if isinstance(wanted, str) else len(wanted)
    info = method_info(request.method, count)
    try:
        chosen = choose_planes(slide, info, wanted)
    except PlaneError as error:
        raise PlaneError(f"{error} (--planes 0)" if wanted != "one" else str(error)) from None
    region = level_region(slide, request.region, request.level)
    centre = slide.planes[slide.zero]
    return plan_fusion(slide, info, chosen, request.level, region, centre=centre)


def level_region(slide: Slide, region: Region | None, level: int) -> Region:
    """Return a region of level 0, or the whole slide, in pixels of ``level``.

    Raises
    ------
    RegionError
        If there is no such level, or the whole slide is larger than is fused in one go.
    """
    from napari_focusfuse.fusion.plan import level_shape

    height, width = level_shape(slide, level)
    if region is None:
        inside = Region(0, 0, height, width)
    else:
        down_y, down_x = slide.levels[level].downsample
        y, x = int(region.y // down_y), int(region.x // down_x)
        stop_y, stop_x = -int(-region.stop_y // down_y), -int(-region.stop_x // down_x)
        inside = Region(y, x, stop_y - y, stop_x - x)
    if min(inside.height, inside.width) > 0 and inside.height * inside.width > MAX_PIXELS:
        raise RegionError(
            f"{inside.width} x {inside.height} pixels are more than the {MAX_PIXELS >> 20} "
            "megapixels this version fuses in one go (whole slides come later); choose a --region "
            "or a coarser --level."
        )
    return inside


def load_blur(device: str, model: str | None = None) -> BlurDetector:
    """Return a blur model, the default one unless another is named.

    Raises
    ------
    FocusFuseError
        If none is installed.
    """
    from napari_focusfuse.fusion.catalogue import load_blur_detector

    detector = load_blur_detector(device, model)
    if detector is None:
        raise FocusFuseError("No blur model is installed, so there is no mask; leave --mask out.")
    return detector


def run_request(plan: FusionPlan, request: Request) -> Fusion:
    """Run a plan to its end with a bar on standard error; imports torch."""
    from napari_focusfuse.fusion.catalogue import load_method
    from napari_focusfuse.fusion.region import run_fusion

    mappers = (load_blur(request.device, request.blur_model),) if request.mask else ()
    steps = run_fusion(plan, load_method(plan.info, request.device), mappers)
    console = messages()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(plan.info.title, total=len(plan.tiles))
        while True:
            try:
                tile = next(steps)
            except StopIteration as finished:
                return finished.value  # type: ignore[no-any-return]
            bar.update(task, completed=tile.done)


def _write(job: Job, fusion: Fusion, request: Request) -> None:
    from napari_focusfuse.writer import write_image

    for path, image in ((job.image, fusion.image), (job.mask, fusion.mask)):
        if path is None or image is None:
            continue
        write_image(
            path,
            image,
            mpp=fusion.plan.mpp,
            provenance=fusion.provenance,
            compression=request.compression,
            overwrite=request.overwrite,
        )
        say(f"wrote {path} ({image.shape[1]} x {image.shape[0]})")


def say_provenance(provenance: dict[str, Any], seconds: float) -> None:
    """Print in two lines where an image comes from."""
    offsets = ", ".join(
        f"{plane['offset']:+d}" if plane["offset"] else "0" for plane in provenance["planes"]
    )
    say(
        f"{provenance['title']} ({provenance['method']}) on layers {offsets} of "
        f"{provenance['source']}; tiling {provenance['tiling']}"
    )
    say(f"{provenance['software']} on {provenance['device']}, {seconds:.1f} s; {provenance['use']}")
