"""Make the algae sample: a crop of a real five-plane z-stack, at half size, as pyramidal OME-TIFF.

    python scripts/make_algae_sample.py FOLDER [OUT]

FOLDER holds plane_1.jpg to plane_5.jpg, the files assets/source/img_1..5.png (JPEG data in spite of
their names) of github.com/midcash/Algae-Microscopic-Multi-Focus-Image-Fusion at commit
1a47a0d03e91f669853bce3526363cfa932e10bb.  Neither the pixel size nor the distance of the planes is
known, so the file carries none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from napari_focusfuse.pixels import halve

OUT = Path(__file__).parents[1] / "src" / "napari_focusfuse" / "samples" / "algae.ome.tif"
PLANES = 5
TOP, LEFT, SIDE = 0, 816, 1536
"""Crop of the halved field: of all crops of this size, the one in which the rarest best plane is
best most often; diatoms, a filament and two colonies lie at different depths in it."""
QUALITY = 88
TILE = 512


def read_stack(folder: Path) -> npt.NDArray[np.uint8]:
    """Return the crop of all planes, (Z, Y, X, 3) uint8."""
    planes = []
    for number in range(1, PLANES + 1):
        with Image.open(folder / f"plane_{number}.jpg") as image:
            plane = halve(np.asarray(image.convert("RGB")))
        planes.append(plane[TOP : TOP + SIDE, LEFT : LEFT + SIDE])
    return np.stack(planes)


def write_pyramid(path: Path, stack: npt.NDArray[np.uint8]) -> None:
    """Write a stack with halved levels in SubIFDs down to one tile."""
    levels = [stack]
    while max(levels[-1].shape[1:3]) > TILE:
        levels.append(np.stack([halve(plane) for plane in levels[-1]]))
    options = {
        "tile": (TILE, TILE),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": QUALITY},
    }
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(
            levels[0],
            subifds=len(levels) - 1,
            metadata={"axes": "ZYXS", "Name": "algae"},
            **options,
        )
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)


def main() -> None:
    """Run the script."""
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT
    write_pyramid(out, read_stack(folder))
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
