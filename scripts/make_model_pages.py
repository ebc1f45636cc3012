"""Write a page for each shipped model, from its card, with pictures of what it does.

Usage: python scripts/make_model_pages.py [--out docs/models] [NAME...]

The pictures are squares at 1:1 of the shipped samples: where the model gains most, where it fails
worst, and a specimen unlike those it was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from napari_focusfuse import fuse, open_slide
from napari_focusfuse.fusion.catalogue import blur_detector_info, method_info
from napari_focusfuse.layer_metadata import (
    INFERRED_COLOUR,
    INFERRED_OPACITY,
    MASK_COLOUR,
    MASK_OPACITY,
    shown_mask,
)
from napari_focusfuse.model_card import ModelCard, read_card, shipped_models
from napari_focusfuse.sample_data import FOLDER
from napari_focusfuse.slide import UInt8Image

SIDE = 200
"""Of a square, in pixels."""
STEP = 50
"""Between the places that are compared."""
GAP, HEAD = 4, 16
BLUR = ("blur", "small-blur")
COLUMNS = ("layer 0", "blurred (red)", "fused", "inferred (violet)", "reference")


@dataclass(frozen=True)
class Pictures:
    """A sample under a model; all (Y, X, 3) or (Y, X) uint8."""

    layer0: UInt8Image
    mask: UInt8Image
    fused: UInt8Image
    inferred: UInt8Image
    reference: UInt8Image

    def cut(self, y: int, x: int) -> tuple[UInt8Image, ...]:
        """Return the columns of one square."""
        here = np.s_[y : y + SIDE, x : x + SIDE]
        layer, fused = self.layer0[here], self.fused[here]
        return (
            layer,
            tinted(layer, shown_mask(layer, self.mask[here]), MASK_COLOUR, MASK_OPACITY),
            fused,
            tinted(fused, self.inferred[here], INFERRED_COLOUR, INFERRED_OPACITY),
            self.reference[here],
        )


def tinted(
    image: UInt8Image, share: UInt8Image, colour: Sequence[float], opacity: float
) -> UInt8Image:
    """Return an image with a map over it, as the window shows it."""
    weight = opacity * (share[..., None].astype(np.float32) / 255)
    mixed = (1 - weight) * image + weight * 255 * np.asarray(colour, np.float32)
    return np.rint(mixed).astype(np.uint8)


def fused_sample(sample: str, model: str) -> Pictures:
    """Fuse a whole sample and hold its reference beside it: extended focus, or all layers fused."""
    count = len(method_info(model).plane_offsets or (0,))
    with open_slide(FOLDER / f"{sample}.ome.tif") as slide:
        shape = slide.levels[0].shape
        result = fuse(
            slide, None, "one" if count == 1 else "three", model, maps=("mask", "inferred")
        )
        middle = slide.planes[slide.zero]
        layer0 = slide.read_region(middle, 0, 0, 0, *shape)
        if slide.extended is None:
            reference = fuse(slide, None, "all", "evidence").image
        else:
            reference = slide.read_region(slide.extended, 0, 0, 0, *shape)
    maps = result.maps
    return Pictures(layer0, maps["mask"], result.image, maps["inferred"], reference)


def error(image: UInt8Image, reference: UInt8Image) -> np.ndarray:
    """Return the mean squared error of each place of a square, on a grid of ``STEP``."""
    squares = (image.astype(np.float32) - reference).__pow__(2).mean(axis=2)
    rows, columns = (range(0, side - SIDE + 1, STEP) for side in squares.shape)
    return np.array([[squares[y : y + SIDE, x : x + SIDE].mean() for x in columns] for y in rows])


def place(score: np.ndarray) -> tuple[int, int]:
    """Return (y, x) of the square with the highest score."""
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    return int(row) * STEP, int(column) * STEP


def gallery(model: str) -> tuple[UInt8Image, tuple[str, ...]]:
    """Return the pictures of a model that fuses, and what the rows show."""
    smear, algae = fused_sample("smear", model), fused_sample("algae", model)
    before, after = (error(i, smear.reference) for i in (smear.layer0, smear.fused))
    harm = error(algae.fused, algae.reference) - error(algae.layer0, algae.reference)
    rows = [smear.cut(*place(before - after)), smear.cut(*place(after)), algae.cut(*place(harm))]
    words = (
        "drawn smear, where it gains most on layer 0",
        "drawn smear, where it is worst",
        "unstained algae, which it was not made for, where it gains least",
    )
    return sheet(rows, COLUMNS), words


def blur_gallery(model: str) -> tuple[UInt8Image, tuple[str, ...]]:
    """Return the pictures of a blur model: layers of the smear, each with its mask."""
    rows = []
    with open_slide(FOLDER / "smear.ome.tif") as slide:
        for offset in (-2, 0, 2):
            result = fuse(slide, None, (offset,), "swift", maps=("mask",))
            plane = slide.plane_at(offset)
            layer = slide.read_region(plane, 0, 0, 0, *slide.levels[0].shape)
            here = np.s_[400 : 400 + SIDE, 400 : 400 + SIDE]
            shown = tinted(layer, shown_mask(layer, result.maps["mask"]), MASK_COLOUR, 0.6)
            rows.append((layer[here], shown[here]))
    return sheet(rows, ("layer", "blurred (red)")), tuple(
        f"the smear's layer {offset:+d}" for offset in (-2, 0, 2)
    )


def sheet(rows: Sequence[Sequence[UInt8Image]], heads: Sequence[str]) -> UInt8Image:
    """Return squares side by side, each column under its head."""
    width = len(heads) * (SIDE + GAP) - GAP
    page = Image.new("RGB", (width, HEAD + len(rows) * (SIDE + GAP) - GAP), "white")
    drawing = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        drawing.text((column * (SIDE + GAP) + 2, 2), head, fill="black")
        for row, squares in enumerate(rows):
            square = Image.fromarray(squares[column])
            page.paste(square, (column * (SIDE + GAP), HEAD + row * (SIDE + GAP)))
    return np.asarray(page)


def page(path: Path, card: ModelCard, picture: str, rows: Sequence[str]) -> str:
    """Return a model's page as Markdown."""
    offsets = ", ".join(f"{offset:+d}" if offset else "0" for offset in card.plane_offsets)
    training = card.training
    shown = "; ".join(f"{number}. {words}" for number, words in enumerate(rows, start=1))
    parts = [
        f"# {card.title} (`{card.name}`)",
        "**Research use only: not for diagnosis.** Written from the header of the model's file by "
        "`scripts/make_model_pages.py`; `focusfuse models "
        f"{card.name}` prints the same.",
        "## What it must not be used for",
        "\n".join(f"- {sentence}" for sentence in card.limits),
        "## What it is",
        table(
            {
                "architecture": f"{card.architecture} {dict(card.config)}",
                "focus layers": offsets,
                "file": f"{path.name}, {path.stat().st_size / 1e6:.2f} MB, float16",
                "SHA-256 of its weights": card.sha256,
                "looks to each side": f"{card.halo} px",
                "error of 90 %": "not calibrated"
                if card.error_factor is None
                else f"{card.error_factor:.2f} times the error it expects",
            }
        ),
        "## What it was trained on",
        table({name: said(value) for name, value in training.items() if name != "recipe"}),
        "<details><summary>recipe</summary>\n\n"
        + table({name: said(value) for name, value in training.get("recipe", {}).items()})
        + "\n\n</details>",
        "## Scores",
        scores(card.scores),
        "## Pictures",
        f"![What it does to the samples]({picture})",
        f"Rows: {shown}. At 1:1.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(values: Mapping[str, object]) -> str:
    """Return two columns."""
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {said(v)} |" for k, v in values.items())])


def said(value: object) -> str:
    """Return a value of a card in words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {said(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(said(each) for each in value)
    return str(value).replace("|", "\\|")


def scores(found: Mapping[str, Any]) -> str:
    """Return the scores of a card; nested ones as a table each."""
    plain = {name: value for name, value in found.items() if not isinstance(value, Mapping)}
    parts = [table(plain)] if plain else []
    for name, values in found.items():
        if isinstance(values, Mapping):
            parts.append(f"**{name}**\n\n{table(values)}")
    return "\n\n".join(parts)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "models")
    parser.add_argument("names", nargs="*", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    default = blur_detector_info()
    for name, path in shipped_models().items():
        if options.names and name not in options.names:
            continue
        card = read_card(path)
        picture, rows = "", ()
        if card.architecture not in BLUR or (default is not None and name == default.name):
            make = blur_gallery if card.architecture in BLUR else gallery
            image, rows = make(name)
            picture = f"{name}.jpg"
            Image.fromarray(image).save(options.out / picture, quality=88)
        (options.out / f"{name}.md").write_text(page(path, card, picture, rows), encoding="utf-8")
        print(options.out / f"{name}.md")


if __name__ == "__main__":
    main()
