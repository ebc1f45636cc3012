"""``focusfuse compare``: scores of an image against a reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_focusfuse.slide import Slide, SlideError

from .options import JsonOption
from .terminal import complain, print_json, print_table, say

if TYPE_CHECKING:
    from napari_focusfuse.comparison import Comparison, Picture


def compare(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="What is scored.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="What it should be.")],
    register: Annotated[
        bool,
        typer.Option("--register", help="Bring both to one scale and find the reference's place."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score an image against a reference: SSIM, CC, Q_MI, PSNR."""
    from napari_focusfuse import comparison

    first, second = read_picture(image), read_picture(reference)
    if register:
        result = comparison.compare(first, second)
        y, x = result.shift
        complain(f"reference found {y} px below and {x} px right, peak {result.peak or 0:.1f}")
    else:
        _check_sizes(first, second)
        result = comparison.compare(_unplaced(first), _unplaced(second), shift=(0, 0))
    if as_json:
        print_json(describe(result))
    else:
        _print(result)


def read_picture(path: Path) -> Picture:
    """Read an image file, or the one plane of a slide that a comparison can mean.

    Raises
    ------
    SlideError
        If it cannot be read, or is a stack without extended focus.
    """
    from napari_focusfuse.comparison import Picture
    from napari_focusfuse.readers import open_slide
    from napari_focusfuse.readers.folder import PICTURE_SUFFIXES, open_picture

    is_picture = path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES
    with open_picture(path) if is_picture else open_slide(path) as slide:
        plane = slide.extended or (slide.planes[0] if len(slide.planes) == 1 else None)
        if plane is None:
            raise _a_stack(slide)
        height, width = slide.levels[0].shape
        pixels = slide.read_region(plane, 0, 0, 0, height, width)
        return Picture(pixels, name=path.name, mpp=slide.mpp)


def describe(result: Comparison) -> dict[str, Any]:
    """Return what ``compare --json`` prints; what is infinite or undefined is None."""
    scores = {
        name: float(value) if math.isfinite(value) else None
        for name, value in result.scores.items()
    }
    return {
        "ssim": scores["SSIM-paper"],
        "cc": scores["CC"],
        "q_mi": scores["Q_MI"],
        "psnr": scores["PSNR"],
        "variants": scores,
    }


def _a_stack(slide: Slide) -> SlideError:
    return SlideError(
        f"{slide.path.name} has {len(slide.planes)} focus layers and no extended focus, so it is "
        "not one image; fuse it, or take one layer with focusfuse fuse --planes 0."
    )


def _check_sizes(image: Picture, reference: Picture) -> None:
    from napari_focusfuse.comparison import ComparisonError

    sizes = [f"{p.pixels.shape[1]} x {p.pixels.shape[0]}" for p in (image, reference)]
    if sizes[0] != sizes[1]:
        raise ComparisonError(
            f"{image.name} has {sizes[0]} pixels and {reference.name} {sizes[1]}; add --register "
            "to compare what both show."
        )


def _unplaced(picture: Picture) -> Picture:
    """Return the picture without scale: pixel is compared to pixel."""
    from dataclasses import replace

    return replace(picture, mpp=None)


def _print(result: Comparison) -> None:
    print_table(
        ("score", "value", "what it is"),
        [(name, f"{value:.4f}", result.variants[name]) for name, value in result.scores.items()],
    )
    height, width = result.shape
    say(f"{width} x {height} pixels compared")
