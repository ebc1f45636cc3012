"""Pictures of a comparison of slides: the map of its tiles, and overview with enlarged blocks.

The second is laid out as Figure 10 of the few-focus fusion paper: the whole slide, and blocks of it
as they went in, as they were fused, and as the reference has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from napari_focusfuse.comparison import told_output
from napari_focusfuse.layer_metadata import foreground
from napari_focusfuse.slide import Region, UInt8Image
from napari_focusfuse.slide_comparison import TILE, ScoredTile, Shown, SlideComparison

OVERVIEW = 960
"""Longest side of the overview in pixels."""
BLOCK = 160
"""Side of an enlarged block in pixels of the slide."""
ENLARGED = 2
"""Pixels of the picture for one of a block; whole, so that none is invented."""
SOME_FOREGROUND = 0.1
"""A block shows cells if this part of it is foreground."""

_MAP_CELL = 8
_GAP, _LINE = 12, 26
_INK, _MARK = (20, 20, 20), (214, 40, 40)
_LOW, _HIGH, _NONE = (94, 12, 44), (255, 255, 255), (205, 205, 205)


@dataclass(frozen=True)
class Block:
    """A place worth a closer look."""

    part: Region
    """In pixels of the compared image."""
    ssim: float
    """Of the tile it is the middle of."""
    rank: str
    """``"lowest"``, ``"median"`` or ``"highest"`` of the tiles that show cells."""


def write_map(comparison: SlideComparison, path: Path) -> None:
    """Write SSIM tile by tile: a picture, or a table if the name ends in ``.csv``.

    Raises
    ------
    ComparisonOutputError
        If the file cannot be written.
    """
    if path.suffix.lower() == ".csv":
        comparison.to_csv(path)
        return
    _save(draw_map(comparison.ssim_map()), path)


def write_figure(comparison: SlideComparison, source: Shown | None, path: Path) -> None:
    """Write the overview with enlarged blocks.

    Parameters
    ----------
    source
        What the image was fused from, layer 0, at the same place; None: there is no such column.

    Raises
    ------
    SlideError
        If a slide is damaged there.
    ComparisonOutputError
        If the file cannot be written.
    """
    _save(draw_figure(comparison, source), path)


def draw_map(ssim: npt.NDArray[np.float64]) -> Image.Image:
    """Return a picture of a (rows, columns) map, white at 1, dark red at its lowest, grey at NaN.

    Every tile is 8 x 8 pixels; the line below tells the range.
    """
    known = ssim[np.isfinite(ssim)]
    low = float(known.min()) if known.size else 0.0
    share = np.clip((ssim - low) / max(1 - low, 1e-9), 0, 1)[..., None]
    colours = np.where(np.isnan(share), _NONE, np.multiply(_LOW, 1 - share) + share * _HIGH)
    cells = np.rint(colours).astype(np.uint8).repeat(_MAP_CELL, 0).repeat(_MAP_CELL, 1)
    text = f"SSIM-paper of {TILE} x {TILE} px: {low:.3f} dark, 1 white"
    width = max(cells.shape[1], int(_font().getlength(text)) + 2 * _GAP)
    picture = Image.new("RGB", (width, cells.shape[0] + _LINE), "white")
    picture.paste(Image.fromarray(cells), (0, 0))
    ImageDraw.Draw(picture).text((_GAP, cells.shape[0] + 3), text, _INK, _font())
    return picture


def draw_figure(comparison: SlideComparison, source: Shown | None) -> Image.Image:
    """Return the overview with enlarged blocks; see :func:`write_figure`."""
    image = comparison.image
    overview = reduced(image, OVERVIEW)
    blocks = choose_blocks(comparison, overview)
    columns = [("fused", image), ("reference", comparison.reference)]
    if source is not None:
        columns.insert(0, ("input, layer 0", source))
    side = BLOCK * ENLARGED
    left = overview.shape[1] + 2 * _GAP
    row = side + _LINE + _GAP
    height = max(overview.shape[0] + 2 * _GAP, _LINE + len(blocks) * row) + _LINE + _GAP
    picture = Image.new("RGB", (left + len(columns) * (side + _GAP), height), "white")
    draw = ImageDraw.Draw(picture)
    picture.paste(Image.fromarray(overview), (_GAP, _GAP))
    for column, (title, _) in enumerate(columns):
        draw.text((left + column * (side + _GAP), 4), title, _INK, _font())
    for number, block in enumerate(blocks):
        _mark(draw, block.part, overview.shape[0] / image.shape[0], number + 1)
        top = _LINE + number * row
        text = f"{number + 1}: SSIM-paper {block.ssim:.3f}, {block.rank} of the tiles with cells"
        draw.text((left, top), text, _INK, _font())
        for column, (_, shown) in enumerate(columns):
            pixels = Image.fromarray(shown.read(block.part))
            size = (pixels.width * ENLARGED, pixels.height * ENLARGED)
            enlarged = pixels.resize(size, Image.Resampling.NEAREST)
            picture.paste(enlarged, (left + column * (side + _GAP), top + _LINE))
    draw.text((_GAP, height - _LINE), _caption(comparison), _INK, _font())
    return picture


def choose_blocks(comparison: SlideComparison, overview: UInt8Image) -> list[Block]:
    """Return the middles of the tiles of lowest, median and highest SSIM among those with cells.

    Chosen by rule, so that nobody picks what flatters; without any cells all tiles are taken.

    Parameters
    ----------
    overview
        (Y, X, 3) uint8 picture of the whole compared image.
    """
    scored = [tile for tile in comparison.tiles if np.isfinite(tile.scores["SSIM-paper"])]
    cells = foreground(overview)
    scale = overview.shape[0] / comparison.shape[0]
    with_cells = [t for t in scored if _share(cells, _middle(t.part), scale) >= SOME_FOREGROUND]
    ranked = sorted(with_cells or scored, key=lambda tile: tile.scores["SSIM-paper"])
    chosen: dict[int, str] = {}
    for index, rank in ((0, "lowest"), (len(ranked) // 2, "median"), (len(ranked) - 1, "highest")):
        chosen.setdefault(index, rank)
    return [_block(ranked[index], rank) for index, rank in chosen.items()]


def reduced(shown: Shown, side: int) -> UInt8Image:
    """Return all of what is shown, at most ``side`` pixels long, as means of whole squares.

    It is read from the coarsest level that is at least twice as long, strip by strip.
    """
    shape = shown.shape
    level = shown.level
    if shown.region == Region(0, 0, *shown.slide.levels[level].shape):
        longer = [i for i, other in enumerate(shown.slide.levels) if max(other.shape) >= 2 * side]
        level = max([level, *longer])
        shown = Shown.whole(shown.slide, shown.plane, level)
        shape = shown.shape
    factor = -(-max(shape) // side)
    rows = 16 * factor
    strips = []
    for y in range(0, shape[0], rows):
        strip = shown.read(Region(y, 0, rows, shape[1]).clipped(*shape))
        strips.append(np.asarray(Image.fromarray(strip).reduce(factor)))
    return np.concatenate(strips)


def _block(tile: ScoredTile, rank: str) -> Block:
    return Block(_middle(tile.part), tile.scores["SSIM-paper"], rank)


def _middle(part: Region) -> Region:
    height, width = min(BLOCK, part.height), min(BLOCK, part.width)
    y, x = part.y + (part.height - height) // 2, part.x + (part.width - width) // 2
    return Region(y, x, height, width)


def _share(cells: npt.NDArray[np.bool_], part: Region, scale: float) -> float:
    """Return which part of a region is foreground in the overview."""
    rows = slice(int(part.y * scale), max(int(part.stop_y * scale), int(part.y * scale) + 1))
    columns = slice(int(part.x * scale), max(int(part.stop_x * scale), int(part.x * scale) + 1))
    inside = cells[rows, columns]
    return float(inside.mean()) if inside.size else 0.0


def _mark(draw: ImageDraw.ImageDraw, part: Region, scale: float, number: int) -> None:
    """Outline a block in the overview, large enough to be seen."""
    y, x = _GAP + (part.y + part.height / 2) * scale, _GAP + (part.x + part.width / 2) * scale
    half = max(part.height * scale / 2, 5)
    draw.rectangle((x - half, y - half, x + half, y + half), outline=_MARK, width=2)
    draw.text((x + half + 3, y - half - 4), str(number), _MARK, _font(), stroke_width=0)


def _caption(comparison: SlideComparison) -> str:
    scores = comparison.scores
    height, width = comparison.shape
    return (
        f"{comparison.image.name} against {comparison.reference.name}, {width} x {height} px: "
        f"SSIM-paper {scores['SSIM-paper']:.4f}, CC {scores['CC']:.4f}, Q_MI {scores['Q_MI']:.4f}, "
        f"PSNR {scores['PSNR']:.2f} dB; blocks {ENLARGED} x"
    )


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(15)


def _save(picture: Image.Image, path: Path) -> None:
    with told_output(path):
        picture.save(path, format="PNG")
