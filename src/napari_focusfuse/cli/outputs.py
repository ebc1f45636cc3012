"""Which file each slide of a call is written to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_focusfuse.writer import SUFFIXES, is_folder

from .options import UsageError

IMAGE = "image"
"""Name of the fused picture among a job's outputs; all others are names of maps."""


@dataclass(frozen=True)
class Job:
    """One slide and the files made from it."""

    slide: Path
    outputs: Mapping[str, Path]
    """``"image"`` and names of maps -> the files that will be written."""

    @property
    def streams(self) -> bool:
        """Whether it is fused block by block to files, so that any size is possible."""
        return not any(path.suffix.lower() == ".png" for path in self.outputs.values())


def plan_jobs(slides: Sequence[Path], outputs: Mapping[str, Path]) -> list[Job]:
    """Return one job for each slide, and make the folder if one is written to.

    A folder takes ``<slide>.fused.ome.tif`` and ``<slide>.<map>.ome.tif``.  Several slides need
    one.

    Raises
    ------
    UsageError
        If several slides would be written to one file, or a file would replace its own slide.
    OSError
        If the folder cannot be made.
    """
    jobs = []
    for slide in slides:
        files = {
            name: _file(slide, path, "fused" if name == IMAGE else name, len(slides))
            for name, path in outputs.items()
        }
        job = Job(slide, files)
        if any(path.resolve() == slide.resolve() for path in files.values()):
            raise UsageError(f"{slide} would be replaced by its own fusion; choose another output.")
        jobs.append(job)
    written = [path.resolve() for job in jobs for path in job.outputs.values()]
    if len(set(written)) < len(written):
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
