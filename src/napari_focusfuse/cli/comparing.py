"""``focusfuse compare``: scores of an image against a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import JsonOption, UsageError
from .terminal import complain, print_json, print_table, say, with_bar

if TYPE_CHECKING:
    from napari_focusfuse.comparison import Comparison, Picture
    from napari_focusfuse.slide_comparison import SlideComparison


MapOption = Annotated[
    Path | None,
    typer.Option("--map", metavar="OUT", help="Write SSIM tile by tile, a .png or a .csv."),
]
FigureOption = Annotated[
    Path | None,
    typer.Option(
        "--figure", metavar="OUT.png", help="Write an overview with enlarged blocks of both."
    ),
]


def compare(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="What is scored.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="What it should be.")],
    register: Annotated[
        bool,
        typer.Option("--register", help="Bring both to one scale and find the reference's place."),
    ] = False,
    tile_map: MapOption = None,
    figure: FigureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score an image against a reference: SSIM, CC, Q_MI, PSNR.

    Without --register slides of any size are compared, tile by tile; a region we fused is compared
    with its place in REFERENCE.
    """
    if register and (tile_map or figure):
        raise UsageError("--map and --figure are made pixel by pixel; leave --register out.")
    result = (
        _registered(image, reference) if register else _tiled(image, reference, tile_map, figure)
    )
    if as_json:
        print_json(describe(result.scores))
    else:
        _print(result)


def describe(found: Mapping[str, float]) -> dict[str, Any]:
    """Return what ``compare --json`` prints; what is infinite or undefined is None."""
    scores = {name: float(value) if math.isfinite(value) else None for name, value in found.items()}
    return {
        "ssim": scores["SSIM-paper"],
        "cc": scores["CC"],
        "q_mi": scores["Q_MI"],
        "psnr": scores["PSNR"],
        "variants": scores,
    }


def _registered(image: Path, reference: Path) -> Comparison:
    from napari_focusfuse import comparison

    result = comparison.compare(_picture(image), _picture(reference))
    y, x = result.shift
    complain(f"reference found {y} px below and {x} px right, peak {result.peak or 0:.1f}")
    return result


def _tiled(
    image: Path, reference: Path, tile_map: Path | None, figure: Path | None
) -> SlideComparison:
    from napari_focusfuse.readers.single import open_single
    from napari_focusfuse.slide_comparison import Shown, compare_slides, lay_over
    from napari_focusfuse.writer import read_provenance

    with open_single(image) as one, open_single(reference) as other:
        first, second = lay_over(Shown.whole(*one), Shown.whole(*other), read_provenance(image))
        result = with_bar("comparing", compare_slides(first, second))
        if tile_map or figure:
            from napari_focusfuse.comparison_figure import write_figure, write_map

            if tile_map:
                write_map(result, tile_map)
            if figure:
                slide = second.slide
                is_stack = slide.extended is not None
                source = second.on(slide.planes[slide.zero]) if is_stack else None
                write_figure(result, source, figure)
    return result


def _picture(path: Path) -> Picture:
    from napari_focusfuse.comparison import Picture
    from napari_focusfuse.readers.single import read_single

    pixels, mpp = read_single(path)
    return Picture(pixels, name=path.name, mpp=mpp)


def _print(result: Comparison | SlideComparison) -> None:
    print_table(
        ("score", "value", "what it is"),
        [(name, f"{value:.4f}", result.variants[name]) for name, value in result.scores.items()],
    )
    height, width = result.shape
    say(f"{width} x {height} pixels compared")
