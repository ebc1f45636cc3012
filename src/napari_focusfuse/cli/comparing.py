"""``focusfuse compare``: scores of an image against a reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

    first, second = _picture(image), _picture(reference)
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


def _picture(path: Path) -> Picture:
    from napari_focusfuse.comparison import Picture
    from napari_focusfuse.readers.single import read_single

    pixels, mpp = read_single(path)
    return Picture(pixels, name=path.name, mpp=mpp)


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
