"""``focusfuse demo``: the main job on the shipped stack of focus layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_focusfuse.slide import Slide, UInt8Image

from .fusing import Request, plan_request, run_request
from .terminal import print_table, say, warn
from .window import open_window

if TYPE_CHECKING:
    from napari_focusfuse.fusion.region import Fusion

SAMPLE = Path(__file__).parents[1] / "samples" / "algae.ome.tif"

NETWORKS = (
    ("three-layers", "three layers, restored", Request(method="swift", planes="three")),
    ("one-layer", "one layer, restored", Request(method="swift", planes="one")),
)
SELECTIONS = (
    ("three-layers-pyramid", "three layers, pyramid", Request(method="pyramid", planes="three")),
    ("three-layers-argmax", "three layers, argmax", Request(method="argmax", planes="three")),
)
ALL_LAYERS = Request(method="argmax", planes="all")

COLUMNS = ("SSIM-paper", "SSIM-sk", "CC", "Q_MI", "PSNR")


@dataclass(frozen=True)
class _Result:
    """One image of the demonstration."""

    stem: str
    title: str
    image: UInt8Image
    fusion: Fusion | None = None


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Where the results go.")
    ] = Path("focusfuse-demo"),
    no_window: Annotated[
        bool, typer.Option("--no-window", help="Do not open napari on the results.")
    ] = False,
) -> None:
    """Fuse a real stack of five focus layers, score the results, write and show them."""
    from napari_focusfuse.readers import open_slide

    with open_slide(SAMPLE) as slide:
        say(f"{SAMPLE.name}: {len(slide.planes)} focus layers of algae; their scale is unknown.")
        results = _make(slide)
        everything = _fuse(slide, "all-layers", "all five layers, argmax", ALL_LAYERS)
    _print_scores(results, everything)
    pyramids = _write(out, [*results, everything])
    if not no_window:
        # The last one opened lies on top, the slide below all.
        open_window([SAMPLE, *reversed(pyramids)], log=out / "napari.log")


def _make(slide: Slide) -> list[_Result]:
    """Return the untouched layer 0, then what each method makes of one layer and of three."""
    from napari_focusfuse.fusion.catalogue import blur_detector_info

    height, width = slide.levels[0].shape
    layer0 = slide.read_region(slide.planes[slide.zero], 0, 0, 0, height, width)
    results = [_Result("layer-0", "layer 0, untouched", layer0)]
    maps = () if blur_detector_info() is None else ("mask",)
    for stem, title, request in (*_networks(), *SELECTIONS):
        results.append(_fuse(slide, stem, title, replace(request, maps=maps)))
        maps = ()  # it is the mask of layer 0 whatever the method: once is enough
    return results


def _networks() -> tuple[tuple[str, str, Request], ...]:
    """Return the fusions by networks for which a trained model is installed."""
    from napari_focusfuse.fusion.catalogue import available_methods

    takes = {len(info.plane_offsets) for info in available_methods() if info.plane_offsets}
    layers = {"one": 1, "three": 3}
    found = tuple(entry for entry in NETWORKS if layers[str(entry[2].planes)] in takes)
    if len(found) < len(NETWORKS):
        warn("some trained models are not installed; their fusions are left out.")
    return found


def _fuse(slide: Slide, stem: str, title: str, request: Request) -> _Result:
    plan = plan_request(slide, request)
    for sentence in plan.warnings:
        warn(f"{title}: {sentence}")
    fusion = run_request(plan, request)
    return _Result(stem, title, fusion.image, fusion)


def _print_scores(results: Sequence[_Result], everything: _Result) -> None:
    from napari_focusfuse.metrics import score

    rows = []
    for result in results:
        scores = score(result.image, everything.image, border=32)
        rows.append((result.title, *(f"{scores[name]:.4g}" for name in COLUMNS)))
    say("")
    print_table(("against all five layers, argmax", *COLUMNS), rows)
    say(
        "The reference is itself a selection, not the truth: it favours methods that select, and "
        "cannot reward what no layer holds. The networks learned from stained smears, which absorb "
        "light; these algae are unstained and bend it, so look at the picture before you trust it."
    )
    say("")


def _write(out: Path, results: Sequence[_Result]) -> list[Path]:
    """Write every image as PNG, the fusions as pyramids too; return the pyramids."""
    from napari_focusfuse.writer import write_image

    out.mkdir(parents=True, exist_ok=True)
    pyramids = []
    for result in results:
        fusion = result.fusion
        images = {f"{result.stem}.png": result.image}
        if fusion is not None:
            images[f"{result.stem}.ome.tif"] = fusion.image
            pyramids.append(out / f"{result.stem}.ome.tif")
        if fusion is not None and fusion.mask is not None:
            images["layer-0-blur-mask.png"] = fusion.mask
        for name, image in images.items():
            write_image(
                out / name,
                image,
                mpp=None,
                provenance={} if fusion is None else fusion.provenance,
                overwrite=True,
            )
            say(f"wrote {out / name}")
    return pyramids
