"""``focusfuse fuse`` and ``focusfuse mask``: regions and whole slides to files."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_focusfuse.plane_transform import describe_briefly
from napari_focusfuse.slide import FocusFuseError, PlaneError, Region, RegionError, Slide

from .options import (
    BlurModelOption,
    CompressionOption,
    DeviceOption,
    LevelOption,
    MapsOption,
    MethodOption,
    OutOption,
    OverwriteOption,
    PlanesOption,
    RegionOption,
    RegisterOption,
    SchedulerOption,
    Settings,
    SettingsOption,
    SlidesArgument,
    UsageError,
    ZeroOption,
    parse_maps,
    parse_planes,
    parse_region,
    parse_settings,
)
from .outputs import IMAGE, Job, plan_jobs
from .streaming import stream
from .terminal import complain, say, warn, with_bar

if TYPE_CHECKING:
    from napari_focusfuse.fusion.method import MapInfo
    from napari_focusfuse.fusion.plan import FusionPlan
    from napari_focusfuse.fusion.planes import Wanted
    from napari_focusfuse.fusion.region import Fusion, TileDone

MAX_PIXELS = 64 << 20
"""Most pixels fused in one go: the sums are held in memory, about 1.6 GB for this many."""

SMALL_PIXELS = 1 << 24
"""Up to so many pixels are fused as the window would: one block, the default tiles."""

SOME_FAILED, INTERRUPTED = 2, 130


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
    maps: tuple[str, ...] = ()
    """Names of the maps that are wanted."""
    blur_model: str | None = None
    """Name or file of what makes the mask; None: the default."""
    compression: str = "jpeg"
    overwrite: bool = False
    settings: Settings = field(default_factory=Settings)
    scheduler: str | None = None
    """Address of a dask scheduler; None: this process does the work."""
    register: bool = False
    """Whether the layers are moved onto the middle one first."""


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
    maps: MapsOption = None,
    blur_model: BlurModelOption = None,
    compression: CompressionOption = "jpeg",
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    scheduler: SchedulerOption = None,
    register: RegisterOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Fuse focus layers of a region, or of whole slides, into one image each.

    To .ome.tif and .ome.zarr any size is possible, and the same command goes on after a stop.
    """
    outputs = {IMAGE: out, **({} if mask is None else {"mask": mask}), **_maps(maps or ())}
    request = Request(
        method=method,
        planes=parse_planes(planes),
        zero=zero,
        region=parse_region(region),
        level=level,
        device=device,
        maps=tuple(name for name in outputs if name != IMAGE),
        blur_model=blur_model,
        compression=compression,
        overwrite=overwrite,
        settings=parse_settings(settings or ()),
        scheduler=scheduler,
        register=register,
    )
    _run_all(plan_jobs(slides, outputs), request)


def mask(
    slides: SlidesArgument,
    out: OutOption,
    zero: ZeroOption = None,
    region: RegionOption = None,
    level: LevelOption = 0,
    blur_model: BlurModelOption = None,
    compression: CompressionOption = "deflate",
    device: DeviceOption = "auto",
    settings: SettingsOption = None,
    scheduler: SchedulerOption = None,
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
        maps=("mask",),
        blur_model=blur_model,
        compression=compression,
        overwrite=overwrite,
        settings=parse_settings(settings or ()),
        scheduler=scheduler,
    )
    _run_all(plan_jobs(slides, {"mask": out}), request)


def _maps(texts: Sequence[str]) -> dict[str, Path]:
    from napari_focusfuse.fusion.maps import available_maps

    return parse_maps(texts, names=tuple(available_maps()))


def _run_all(jobs: Sequence[Job], request: Request) -> None:
    """Run every job; with several, a bad slide is reported and the others go on."""
    _check_outputs(jobs, request)
    failed = 0
    for job in jobs:
        try:
            _run(job, request)
        except (FocusFuseError, OSError) as error:
            if len(jobs) == 1 or getattr(error, "exit_code", 0) == INTERRUPTED:
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
        for path in job.outputs.values():
            # What streams may have been begun, or finished, by the same command before.
            check_output(path, overwrite=request.overwrite or job.streams)


def _run(job: Job, request: Request) -> None:
    from napari_focusfuse.readers import open_slide
    from napari_focusfuse.registered_slide import registered

    started = time.monotonic()
    with open_slide(job.slide, zero=request.zero) as stored:
        slide: Slide = registered(stored) if request.register else stored
        plan = plan_request(slide, request, whole=job.streams)
        for sentence in (*slide.warnings, *plan.warnings):
            warn(sentence)
        fusion = None if job.streams else run_request(plan, request, job.outputs)
    if fusion is None:
        provenance = stream(plan, job.outputs, request)
    else:
        provenance = fusion.provenance
        _write(job, fusion, request)
    say_provenance(provenance, time.monotonic() - started)


def plan_request(slide: Slide, request: Request, *, whole: bool = False) -> FusionPlan:
    """Return the plan for one open slide; reads no pixel.

    Parameters
    ----------
    whole
        Whether the result is written block by block, so that any size is possible.

    Raises
    ------
    PlaneError, RegionError, UnknownMethodError
        If the slide has no such focus layers or region, or there is no such method.
    """
    from napari_focusfuse.fusion.catalogue import method_info
    from napari_focusfuse.fusion.plan import DEFAULT, PRESETS, SLIDE, plan_fusion
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
    pixels = region.height * region.width
    if not whole and min(region.height, region.width) > 0 and pixels > MAX_PIXELS:
        raise RegionError(
            f"{region.width} x {region.height} pixels are more than the {MAX_PIXELS >> 20} "
            "megapixels that are fused in one go to PNG; write to .ome.tif or .ome.zarr, or choose "
            "a --region or a coarser --level."
        )
    preset = SLIDE if whole and pixels > SMALL_PIXELS else DEFAULT
    return plan_fusion(
        slide,
        info,
        chosen,
        request.level,
        region,
        PRESETS.get(request.settings.preset or "", preset),
        centre=slide.planes[slide.zero],
        max_pixels=None if whole else MAX_PIXELS,
    )


def level_region(slide: Slide, region: Region | None, level: int) -> Region:
    """Return a region of level 0, or the whole slide, in pixels of ``level``.

    Raises
    ------
    RegionError
        If there is no such level.
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
    return inside


def run_request(
    plan: FusionPlan, request: Request, outputs: Mapping[str, Path] = MappingProxyType({})
) -> Fusion:
    """Run a plan to its end with a bar on standard error; imports torch.

    Raises
    ------
    UsageError
        If one of the outputs cannot hold its map.
    """
    from napari_focusfuse.fusion.maps import load_fusion
    from napari_focusfuse.fusion.region import run_fusion

    method, mappers = load_fusion(plan, request.maps, request.device, request.blur_model)
    for about in (*method.maps, *(about for mapper in mappers for about in mapper.maps)):
        _check_map(about, outputs.get(about.name))
    steps = run_fusion(plan, method, mappers)
    return with_bar(plan.info.title, _counted(steps))


def _check_map(about: MapInfo, path: Path | None) -> None:
    if about.unit is not None and path is not None and path.suffix.lower() == ".png":
        raise UsageError(
            f"{about.title} is a number of {about.unit} at every pixel, and {path.name} can hold "
            "only bytes; write it to .ome.tif or .ome.zarr."
        )


def _counted(steps: Generator[TileDone, None, Fusion]) -> Generator[tuple[int, int], None, Fusion]:
    while True:
        try:
            tile = next(steps)
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]
        yield tile.done, tile.total


def _write(job: Job, fusion: Fusion, request: Request) -> None:
    from napari_focusfuse.writer import map_provenance, write_image

    made = fusion.provenance
    images = {IMAGE: fusion.image, **fusion.maps}
    for name, path in job.outputs.items():
        image = images[name]
        write_image(
            path,
            image,
            mpp=fusion.plan.mpp,
            provenance=made if name == IMAGE else map_provenance(made, name),
            compression=request.compression,
            overwrite=request.overwrite,
            icc=fusion.plan.slide.icc_profile if name == IMAGE else None,
        )
        say(f"wrote {path} ({image.shape[1]} x {image.shape[0]})")


def say_provenance(provenance: Mapping[str, Any], seconds: float) -> None:
    """Print in two or three lines where an image comes from."""
    offsets = ", ".join(
        f"{plane['offset']:+d}" if plane["offset"] else "0" for plane in provenance["planes"]
    )
    say(
        f"{provenance['title']} ({provenance['method']}) on layers {offsets} of "
        f"{provenance['source']}; tiling {provenance['tiling']}"
    )
    if "registration" in provenance:
        say(describe_briefly(provenance["registration"]))
    say(f"{provenance['software']} on {provenance['device']}, {seconds:.1f} s; {provenance['use']}")
