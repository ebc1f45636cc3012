"""Draw the synthetic smear sample: 11 focal planes with their known extended focus.

    python scripts/make_smear_sample.py [OUT]

Everything in it comes from ``napari_focusfuse.smear`` and ``napari_focusfuse.defocus`` under one
seed.  The truth, in focus everywhere, is stored as a second image named "Extended focus".
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_focusfuse.benchmark_definition import OPTICS, Z_STEP_UM, simulate_specimen
from napari_focusfuse.pixels import halve
from napari_focusfuse.smear import draw_smear

OUT = Path(__file__).parents[1] / "src" / "napari_focusfuse" / "samples" / "smear.ome.tif"
SIDE, PLANES, SEED = 1024, 11, 7
QUALITY, TILE = 85, 512


def main() -> None:
    """Run the script."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    rng = np.random.default_rng(SEED)
    specimen = draw_smear((SIDE, SIDE), rng, depth_um=10.0, mpp=OPTICS.mpp)
    stack = simulate_specimen(specimen, specimen.height_map(), rng, layers=PLANES)
    scale = {"PhysicalSizeX": OPTICS.mpp, "PhysicalSizeY": OPTICS.mpp}
    with tifffile.TiffWriter(out, ome=True) as writer:
        focal = {"axes": "ZYXS", "Name": "Focal planes", "PhysicalSizeZ": Z_STEP_UM}
        write_pyramid(writer, stack.planes, focal | scale)
        write_pyramid(writer, stack.truth_all, {"axes": "YXS", "Name": "Extended focus"} | scale)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def write_pyramid(writer: Any, image: np.ndarray, metadata: dict[str, Any]) -> None:
    """Write a (..., Y, X, 3) uint8 image and its half as JPEG tiles."""
    options = {
        "tile": (TILE, TILE),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": QUALITY},
    }
    writer.write(image, subifds=1, metadata=metadata, **options)
    half = halve(image) if image.ndim == 3 else np.stack([halve(plane) for plane in image])
    writer.write(half, subfiletype=1, **options)


if __name__ == "__main__":
    main()
