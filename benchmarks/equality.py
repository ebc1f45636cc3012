"""Print how MIRAX slides as we read them differ from what OpenSlide shows of the same pixels.

OpenSlide reads focus slot 0 only, so the same slide is written once for each plane, with that plane
in slot 0, and OpenSlide's picture of it is the reference for ours of the plane where it lay.  All
of every level is compared.  "Within 2" is the share of values (three a pixel) that differ by at
most 2; "alpha" tells whether both agree, at every pixel, on whether there is an image.

The demands: level 0 exact; above it, where images lie between pixels, a mean difference of at most
0.5 and 99 % within 2; alpha equal.  The command fails if one is missed.

Usage: python benchmarks/equality.py
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openslide

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mrxs_files import Layout, Slot, focus_slots, in_front, write_mrxs
from napari_focusfuse.readers.mrxs import MiraxSlide, open_mrxs
from napari_focusfuse.slide import FocalPlane, Region
from slide_files import Stack, make_stack

MOST_MEAN, LEAST_WITHIN = 0.5, 0.99
PHOTOS = Layout(divisions=2, overlap=(8, 10), jitter=3, zooms=4)
MISSING = frozenset({(1, 1), (2, 0)})


@dataclass(frozen=True)
class Variant:
    """A way to store a slide: layers ``first``, + 1, ... and how they are laid out."""

    name: str
    layout: Layout
    layers: int = 3
    first: int = -1


VARIANTS = (
    Variant("grid, PNG", Layout()),
    Variant("grid, JPEG 4:4:4", Layout(codec="JPEG")),
    Variant("grid, JPEG 4:2:0", Layout(codec="JPEG", subsampling=2)),
    Variant("grid, BMP24, mask hierarchy", Layout(codec="BMP24", mask=True)),
    Variant("grid, photos missing", Layout(zooms=4, missing=MISSING)),
    Variant("photos overlap, table", replace(PHOTOS, positions="vimslide")),
    Variant(
        "photos overlap, packed table, missing",
        replace(PHOTOS, positions="zlib", missing=MISSING),
    ),
    Variant("photos overlap, no table", Layout(divisions=2, overlap=(7, 5), zooms=4)),
    Variant(
        "photos of one image, between pixels",
        Layout(tile=(35, 50), overlap=(7, 5), jitter=2, positions="vimslide", zooms=4),
    ),
    Variant(
        "zoom 0 stored reduced, JPEG",
        Layout(divisions=4, first_exponent=1, overlap=(8, 8), positions="vimslide", codec="JPEG"),
    ),
    Variant("11 layers, mask hierarchy, JPEG", Layout(mask=True, codec="JPEG"), 11, -5),
    Variant("layers -14 to +15, comma for point", Layout(comma=True, zooms=2), 30, -14),
    Variant(
        "fluorescence, three filters",
        Layout(filters=("DAPI", "FITC", "Cy3"), kind="SLIDE_TYPE_FLUORESCENCE"),
    ),
)


@dataclass(frozen=True)
class Difference:
    """Ours against OpenSlide's, all of one level of one plane."""

    largest: int
    mean: float
    within: float
    """Share of values that differ by at most 2."""
    alpha: bool

    def holds(self, level: int) -> bool:
        """Tell whether the demands are met."""
        if level == 0:
            return self.alpha and self.largest == 0
        return self.alpha and self.mean <= MOST_MEAN and self.within >= LEAST_WITHIN


def slots_of(variant: Variant) -> list[Slot]:
    """Return the extended focus and the layers, with grain that a shift of half a pixel shows."""
    smooth = make_stack(variant.layers + 1, 170, 250)
    grain = np.random.default_rng(0).integers(-40, 40, smooth.shape)
    *layers, fused = list(np.clip(smooth + grain, 0, 255).astype(np.uint8))
    return focus_slots(layers, variant.first, fused=fused, step=0.9)


def difference(
    slide: MiraxSlide, plane: FocalPlane, level: int, oracle: openslide.OpenSlide
) -> Difference:
    """Compare all of a level; where OpenSlide has no image its picture lies on our background."""
    height, width = slide.levels[level].shape
    if oracle.level_dimensions[level] != (width, height):
        raise SystemExit(f"{slide.path.name}: level {level} differs in size")
    rgba = np.asarray(oracle.read_region((0, 0), level, (width, height)))
    alpha = rgba[..., 3:] / 255
    expected = np.round(rgba[..., :3] * alpha + np.array(slide.background) * (1 - alpha))
    ours: Stack = slide.read_region(plane, level, 0, 0, height, width)
    off = np.abs(ours - expected)
    covered = slide.coverage(plane, level, Region(0, 0, height, width))
    return Difference(
        largest=int(off.max()),
        mean=float(off.mean()),
        within=float((off <= 2).mean()),
        alpha=bool((covered == rgba[..., 3]).all()),
    )


def differences(variant: Variant, folder: Path) -> dict[str, list[Difference]]:
    """Return the differences of every plane, by its name, and in it of every level."""
    slots = slots_of(variant)
    found = {}
    with open_mrxs(write_mrxs(folder / "ours.mrxs", slots, variant.layout)) as slide:
        if slide.extended is None or len(slide.planes) != variant.layers:
            raise SystemExit(f"{variant.name}: planes are missing")
        for slot, plane in enumerate([slide.extended, *slide.planes]):
            path = folder / f"{slot}.mrxs"
            with openslide.OpenSlide(write_mrxs(path, in_front(slots, slot), variant.layout)) as o:
                levels = range(len(slide.levels))
                found[plane.name] = [difference(slide, plane, level, o) for level in levels]
    return found


def show(variant: Variant, found: dict[str, list[Difference]]) -> bool:
    """Print a table with a row for each plane, and tell whether all demands are met."""
    levels = range(1, len(next(iter(found.values()))))
    print(f"\n{variant.name}")
    heads = "".join(f"  {f'level {level}: mean':>14} {'within 2':>9}" for level in levels)
    print(f"  {'plane':<18} {'level 0: max':>12}{heads}  alpha")
    good = True
    for name, rows in found.items():
        figures = "".join(
            f"  {rows[level].mean:14.4f} {100 * rows[level].within:7.2f} %" for level in levels
        )
        alpha = "equal" if all(row.alpha for row in rows) else "DIFFERS"
        print(f"  {name:<18} {rows[0].largest:12}{figures}  {alpha}")
        good &= all(row.holds(level) for level, row in enumerate(rows))
    return good


def main() -> None:
    print(f"OpenSlide {openslide.__library_version__}; all pixels of all levels")
    missed = []
    planes = 0
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            found = differences(variant, Path(folder))
        planes += len(found)
        if not show(variant, found):
            missed.append(variant.name)
    print(f"\n{len(VARIANTS)} slides, {planes} planes: ", end="")
    print(f"missed by {'; '.join(missed)}" if missed else "all demands met")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
