"""Which file each slide of a call is written to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_focusfuse.writer import SUFFIXES, is_folder

from .options import UsageError


@dataclass(frozen=True)
class Job:
    """One slide and the files made from it."""

    slide: Path
    image: Path | None
    mask: Path | None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that will be written."""
        return tuple(path for path in (self.image, self.mask) if path is not None)


def plan_jobs(slides: Sequence[Path], image: Path | None, mask: Path | None) -> list[Job]:
    """Return one job for each slide, and make the folder if one is written to.

    A folder takes ``<slide>.fused.ome.tif`` and ``<slide>.mask.ome.tif``.  Several slides need one.

    Raises
    ------
    UsageError
        If several slides would be written to one file, or a file would replace its own slide.
    OSError
        If the folder cannot be made.
    """
    jobs = []
    for slide in slides:
        job = Job(
            slide,
            None if image is None else _file(slide, image, "fused", len(slides)),
            None if mask is None else _file(slide, mask, "mask", len(slides)),
        )
        if any(path.resolve() == slide.resolve() for path in job.outputs):
            raise UsageError(f"{slide} would be replaced by its own fusion; choose another output.")
        jobs.append(job)
    outputs = [path.resolve() for job in jobs for path in job.outputs]
    if len(set(outputs)) < len(outputs):
        raise UsageError("Two results would be written to one file; choose different names.")
    return jobs


def _file(slide: Path, output: Path, role: str, slides: int) -> Path:
    if output.name.lower().endswith(SUFFIXES) and (is_folder(output) or not output.is_dir()):
        if slides > 1:
            raise UsageError(f"{slides} slides cannot be written to {output}; give a folder.")
        return output
    if output.suffix and not output.is_dir():
        raise UsageError(
            f"{output} has no suffix that can be written; choose a folder, or one of "
            f"{', '.join(SUFFIXES)}."
        )
    output.mkdir(parents=True, exist_ok=True)
    stem = slide.name if slide.is_dir() else re.sub(r"(\.ome)?\.[^.]+$", "", slide.name)
    return output / f"{stem}.{role}.ome.tif"
