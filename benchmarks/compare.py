"""Print how fast whole slides are compared, and the most memory it takes.

Two slides are written, of one tile of drawn smear over and over, the second blurred a little, and
compared as ``focusfuse compare`` does, in a process of its own.  The time is the processor's, so a
busy machine changes it little; memory is the peak of that process.  A slide of the paper's size is
told in proportion: an estimate, while its memory differs by what is kept of each tile.

Usage: python benchmarks/compare.py [--side 8192]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.writer import TILE, PyramidSpec, encode_tile, write_pyramid

SAMPLE = Path(__file__).parents[1] / "src/napari_focusfuse/samples/smear.ome.tif"
PAPER = 86_784 * 100_352

MEASURED = """
import resource, sys, time
from napari_focusfuse.cli.program import run
code = run(["compare", *sys.argv[1:], "--json"])
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(code, time.process_time(), megabytes, file=sys.stderr)
"""


def write_slide(path: Path, tile: UInt8Image, side: int) -> None:
    """Write a square slide of one (512, 512, 3) tile."""
    spec = PyramidSpec(side, side)

    def tiles(level: int) -> Iterator[bytes]:
        picture = tile
        for _ in range(min(level, 9)):
            picture = np.tile(halve(picture), (2, 2, 1))
        encoded = encode_tile(picture, spec)
        rows, columns = spec.grid(level)
        return (encoded for _ in range(rows * columns))

    write_pyramid(path, spec, tiles, mpp=(0.243, 0.243), provenance={}, name=path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8192)
    side = parser.parse_args().side
    with open_slide(SAMPLE) as slide:
        sharp, soft = (
            slide.read_region(slide.planes[slide.zero + offset], 0, 200, 200, TILE, TILE)
            for offset in (0, 1)
        )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("fused.ome.tif", "reference.ome.tif")]
        for path, tile in zip(paths, (sharp, soft), strict=True):
            write_slide(path, tile, side)
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, paths)],
            capture_output=True,
            text=True,
            check=True,
        )
    code, seconds, megabytes = (float(text) for text in done.stderr.split()[-3:])
    assert code == 0, done.stderr
    speed = side * side / 1e6 / seconds
    print(f"{side} x {side} px: {speed:.2f} MP/s of one core, peak {megabytes:.0f} MB")
    print(
        f"the paper's slide at that speed: {PAPER / 1e6 / speed / 3600:.1f} core hours (estimate)"
    )


if __name__ == "__main__":
    main()
