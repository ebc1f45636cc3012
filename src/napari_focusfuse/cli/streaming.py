"""Slides fused block by block to files, with a bar in the shell."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import progress_bar, say

if TYPE_CHECKING:
    from napari_focusfuse.fusion.plan import FusionPlan
    from napari_focusfuse.whole_slide import SlideProgress, SlideResult

    from .fusing import Request

_STAGES = {"preparing": "opening", "fusing": "fusing", "writing": "putting the file together"}
_ONE_BLOCK = 4096


def stream(plan: FusionPlan, outputs: Mapping[str, Path], request: Request) -> Mapping[str, Any]:
    """Fuse a plan to files, or go on with it; return the provenance."""
    from napari_focusfuse.fusion.plan import SLIDE
    from napari_focusfuse.whole_slide import fuse_slide, slide_job
    from napari_focusfuse.whole_slide.cluster import connect

    settings, large = request.settings, plan.preset == SLIDE
    job = slide_job(
        plan,
        outputs,
        compression=request.compression,
        block=settings.block or (None if large else _ONE_BLOCK),
        skip_background=large if settings.background is None else settings.background == "skip",
        device=request.device,
        blur_model=request.blur_model,
    )
    client = None if request.scheduler is None else connect(request.scheduler)
    steps = fuse_slide(job, overwrite=request.overwrite, threads=settings.threads, client=client)
    with closing(client) if client is not None else nullcontext(), progress_bar(clock=False) as bar:
        task = bar.add_task(_STAGES["preparing"], total=None)
        while True:
            try:
                progress = next(steps)
            except StopIteration as finished:
                result: SlideResult = finished.value
                break
            bar.update(
                task,
                description=_STAGES[progress.stage] + _left(progress),
                completed=progress.done,
                total=progress.total,
            )
    _tell(result, plan)
    return result.provenance


def _left(progress: SlideProgress) -> str:
    if progress.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    return f", {hours}:{minutes:02}:{seconds:02} left"


def _tell(result: SlideResult, plan: FusionPlan) -> None:
    for path in result.outputs.values():
        if result.already_done:
            say(f"{path} was finished before")
        else:
            say(f"wrote {path} ({plan.region.width} x {plan.region.height})")
    tiles, resumed = result.report["tiles"], result.report["timing"]["resumed_blocks"]
    if tiles["empty"]:
        total = tiles["empty"] + tiles["computed"]
        say(f"{tiles['empty']} of {total} tiles are empty glass and were not fused")
    if resumed and not result.already_done:
        say(f"{resumed} of {len(result.report['blocks'])} blocks were done before")
