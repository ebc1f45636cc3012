"""What is to be fused to which files: plain data that another process can be given."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from napari_focusfuse.fusion.catalogue import blur_detector_info, method_info
from napari_focusfuse.fusion.plan import FusionPlan, Preset, plan_fusion
from napari_focusfuse.plane_transform import PlaneTransform
from napari_focusfuse.readers import open_slide
from napari_focusfuse.registered_slide import RegisteredSlide
from napari_focusfuse.slide import FocusFuseError, Region, Slide, SlideError
from napari_focusfuse.writer import TILE

IMAGE = "image"
"""Name of the fused picture among the outputs; all others are names of maps."""

_HEAD = 1 << 20
_LARGEST_BLOCK = 4096


class BlockSizeError(FocusFuseError, ValueError):
    """A block of work has an impossible size."""

    exit_code = 1


@dataclass(frozen=True)
class SlideJob:
    """A whole slide, or a region of one, to be fused to files.  Make it by :func:`slide_job`."""

    slide: Path
    """Absolute path of the slide."""
    zero: int
    """Index of the plane that counts as layer 0."""
    planes: tuple[int, ...]
    """Indices of the planes, in the method's input order."""
    centre: int
    """Index of the plane whose blur the mask shows."""
    method: str
    """Name of the method, or path of its model file."""
    model_hash: str | None
    """SHA-256 of the model, None for a classical method."""
    level: int
    region: Region
    """In pixels of the level."""
    preset: Preset
    outputs: Mapping[str, Path]
    """``"image"`` and names of maps -> absolute path of an ``.ome.tif`` or ``.ome.zarr``."""
    compression: str
    """Of the picture's tiles in an OME-TIFF."""
    block: int
    """Side in pixels of the squares that are finished one by one; a multiple of 512."""
    skip_background: bool
    """Whether tiles that hold nothing at a low level become constant instead of being fused."""
    device: str = "auto"
    blur_model: str | None = None
    """Name or file of what makes the mask; None: the default."""
    moves: tuple[PlaneTransform, ...] = ()
    """How each plane of the slide is moved as it is read; empty: they stay."""

    @property
    def first_output(self) -> Path:
        """The output beside which the files lie that keep the work: spool, journal, lock."""
        return next(iter(self.outputs.values()))

    def open(self) -> Slide:
        """Open the slide, its planes moved if they are to be.

        Raises
        ------
        SlideError
            If it cannot be opened, or has other planes by now.
        """
        slide = open_slide(self.slide, zero=self.zero)
        if not self.moves:
            return slide
        if len(self.moves) != len(slide.planes):
            slide.close()
            raise SlideError(f"{self.slide.name} has other focus layers than when it was planned.")
        return RegisteredSlide(slide, self.moves)

    def as_json(self) -> dict[str, Any]:
        """Return the job as plain JSON; :meth:`from_json` takes it back."""
        outputs = {name: str(path) for name, path in self.outputs.items()}
        return {**asdict(self), "slide": str(self.slide), "outputs": outputs}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SlideJob:
        """Return the job that :meth:`as_json` wrote."""
        changed = {
            "slide": Path(values["slide"]),
            "planes": tuple(values["planes"]),
            "region": Region(**values["region"]),
            "preset": Preset(**values["preset"]),
            "outputs": {name: Path(path) for name, path in values["outputs"].items()},
            "moves": tuple(PlaneTransform(**move) for move in values.get("moves", ())),
        }
        return cls(**{**values, **changed})


def slide_job(
    plan: FusionPlan,
    outputs: Mapping[str, str | Path],
    *,
    compression: str = "jpeg",
    block: int | None = None,
    skip_background: bool = True,
    device: str = "auto",
    blur_model: str | None = None,
) -> SlideJob:
    """Make a job of a plan.

    Parameters
    ----------
    plan
        What to fuse; its slide was opened from a file.
    outputs
        ``"image"`` and names of maps -> path of an ``.ome.tif`` or ``.ome.zarr``.
    block
        Side in pixels of the squares that are finished one by one, a multiple of 512; None: one
        that fits the tiles.  Changes nothing in the result.

    Raises
    ------
    BlockSizeError
        If the block is no multiple of 512 pixels.
    """
    info = plan.info
    side = default_block(plan.grid.step) if block is None else block
    if side < TILE or side % TILE:
        raise BlockSizeError(f"A block of {side} pixels is no multiple of {TILE}; choose one.")
    return SlideJob(
        slide=Path(os.path.abspath(plan.slide.path)),
        zero=plan.slide.zero,
        planes=tuple(plane.index for plane in plan.planes),
        centre=plan.centre.index,
        method=info.name if info.weights is None else os.path.abspath(info.weights),
        model_hash=info.model_hash,
        level=plan.level,
        region=plan.region,
        preset=plan.preset,
        outputs={name: Path(os.path.abspath(path)) for name, path in outputs.items()},
        compression=compression,
        block=side,
        skip_background=skip_background,
        device=device,
        blur_model=blur_model,
        moves=plan.slide.transforms if isinstance(plan.slide, RegisteredSlide) else (),
    )


def default_block(step: int) -> int:
    """Return a block of whole tiles, if there is one of moderate size, else 2048 pixels.

    Of a block that cuts tiles, those at its border are computed by its neighbours too.
    """
    sizes = range(2048, _LARGEST_BLOCK + 1, 2 * TILE)
    return next((size for size in sizes if size % step == 0), 2048)


def plan_job(job: SlideJob, slide: Slide) -> FusionPlan:
    """Return the plan a job was made of; reads no pixel and needs no torch.

    Raises
    ------
    SlideError
        If the model is another one by now, or the slide has other planes.
    """
    info = method_info(job.method, len(job.planes))
    if info.model_hash != job.model_hash:
        raise SlideError(f"The model {job.method} is not the one this work was begun with.")
    if max(*job.planes, job.centre) >= len(slide.planes):
        raise SlideError(f"{slide.path.name} has fewer focus layers than when this was planned.")
    planes = [slide.planes[index] for index in job.planes]
    return plan_fusion(
        slide,
        info,
        planes,
        job.level,
        job.region,
        job.preset,
        centre=slide.planes[job.centre],
        max_pixels=None,
    )


@dataclass(frozen=True)
class RunIdentity:
    """What makes two runs the same work, so that one can go on with the other's blocks."""

    slide: str
    """Hash of the slide's files: names, sizes, times and first megabyte."""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """The identity in 32 hexadecimal digits."""
        text = json.dumps([self.slide, self.parameters], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def run_identity(job: SlideJob, provenance: Mapping[str, Any]) -> RunIdentity:
    """Return the identity of a job as it runs here: slide, parameters, models and code.

    Parameters
    ----------
    provenance
        Of the fusion, with device and precision as they are where it runs.
    """
    detector = blur_detector_info(job.blur_model)
    asked = job.as_json()
    # The provenance holds the moves rounded, as far as two registrations of one slide agree.
    for place in ("slide", "method", "device", "outputs", "blur_model", "moves"):
        del asked[place]
    parameters = {
        **asked,
        "outputs": {name: path.name for name, path in job.outputs.items()},
        "blur_model": None if detector is None else detector.model_hash,
        "provenance": dict(provenance),
        "version": version("napari-focusfuse"),
    }
    return RunIdentity(slide_identity(job.slide), parameters)


def slide_identity(path: Path) -> str:
    """Return a hash of what a slide's files are, without reading them whole.

    Raises
    ------
    SlideError
        If the slide is gone.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        for file in _files(path):
            facts = file.stat()
            digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        if path.is_file():
            with path.open("rb") as stream:
                digest.update(stream.read(_HEAD))
    except OSError as error:
        raise SlideError(
            f"{path.name} disappeared or cannot be read ({error.strerror}); connect its drive or "
            "put it back, and run again: what is done is kept."
        ) from None
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a slide; those of a MIRAX slide lie in the folder of its name."""
    if path.is_file():
        yield path
    folder = path if path.is_dir() else path.with_suffix("")
    if path.is_dir() or path.suffix.lower() == ".mrxs":
        yield from sorted(file for file in folder.rglob("*") if file.is_file())
    elif not path.exists():
        path.stat()
