"""Print how fast a whole slide is fused, stage by stage, beside the floor of each stage.

The slide is generated: three focus planes of drawn smear, 16 of its 25 squares of 4096 pixels
(64 %) cells and the others empty glass, JPEG tiles of 512 pixels, 4:2:0, quality 90, four levels.
It is fused by the command line in a process of its own, whose peak memory is that of all the work.

Each stage has its own line, in megapixels per second of the processor (a busy machine changes that
little): what it did in the run, and what it does *alone*: decoding by libjpeg-turbo on the same
tiles in memory, encoding from pixels in memory, the network on one tile again and again, before and
after the run.  Decoded pixels count each plane, fused and encoded ones the result.

What the network keeps of its throughput alone is its share of all the processor time of the run,
start included: where the processor limits, as it does without a GPU, that is what remains of it.

Usage: python benchmarks/slide.py [--side 20480] [--method swift] [--workers]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_focusfuse.benchmark_definition import drawn_stack
from napari_focusfuse.fusion.catalogue import method_info
from napari_focusfuse.fusion.plan import SLIDE, plan_fusion
from napari_focusfuse.fusion.planes import choose_planes
from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import Region
from napari_focusfuse.whole_slide import SlideJob, fuse_slide, slide_job
from napari_focusfuse.whole_slide.blocks import Block
from napari_focusfuse.whole_slide.shares import make_parts
from napari_focusfuse.whole_slide.worker import BlockWorker

SQUARE, TILE, LEVELS, PLANES = 4096, 512, 4, 3
PAPER_MPX = 86784 * 100352 / 1e6
GLASS = 250


def is_cells(row: int, column: int) -> bool:
    """Tell whether a square of the slide holds cells: 16 of each 5 x 5."""
    return row % 5 < 4 and column % 5 < 4


def patterns() -> list[list[np.ndarray]]:
    """Return, of each level, the pictures of a square's planes: cells, then glass."""
    drawn = drawn_stack(8.0, 0).planes
    height, width = drawn.shape[1:3]
    pad = ((0, 0), (0, SQUARE - height), (0, SQUARE - width), (0, 0))
    squares = [*np.pad(drawn, pad, mode="symmetric"), np.full((SQUARE, SQUARE, 3), GLASS, np.uint8)]
    levels = [squares]
    for _ in range(LEVELS - 1):
        levels.append([halve(square) for square in levels[-1]])
    return levels


def encode(pixels: np.ndarray) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels),
            level=90,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling=(2, 2),
        )
    )


def make_slide(path: Path, side: int) -> Path:
    """Write the slide; its few different tiles are encoded once."""
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        for level, squares in enumerate(patterns()):
            in_square = (SQUARE >> level) // TILE
            tiles = [
                {
                    (y, x): encode(square[y * TILE :, x * TILE :][:TILE, :TILE])
                    for y, x in product(range(in_square), repeat=2)
                }
                for square in squares
            ]

            def of_level(tiles: Any = tiles, in_square: int = in_square) -> Iterator[bytes]:
                across = side // SQUARE * in_square
                for plane, y, x in product(range(PLANES), range(across), range(across)):
                    kind = plane if is_cells(y // in_square, x // in_square) else PLANES
                    yield tiles[kind][y % in_square, x % in_square]

            first = {
                "subifds": LEVELS - 1,
                "metadata": {
                    "axes": "ZYXS",
                    "PhysicalSizeX": 0.243,
                    "PhysicalSizeY": 0.243,
                    "PhysicalSizeZ": 2.7,
                },
            }
            file.write(
                of_level(),
                shape=(PLANES, side >> level, side >> level, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                **(first if level == 0 else {"subfiletype": 1, "metadata": None}),
            )
    return path


def job_of(slide: Path, out: Path, method: str, region: Region | None = None) -> SlideJob:
    with open_slide(slide) as opened:
        info = method_info(method, PLANES)
        planes = choose_planes(opened, info, "three")
        whole = Region(0, 0, *opened.levels[0].shape)
        plan = plan_fusion(opened, info, planes, 0, region or whole, SLIDE, max_pixels=None)
        return slide_job(plan, {"image": out})


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the processor time of one call, of all threads together."""
    begun = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - begun) / repeats


class Alone:
    """Each stage by itself, on one tile or block of the slide."""

    def __init__(self, job: SlideJob, repeats: int) -> None:
        self.worker, self.repeats = BlockWorker(job), repeats
        self.tile = self.worker.tiles(Block(0, 0))[0]
        self.stack = self.worker.read(self.tile)
        self.fuse: list[float] = []

    def decode(self) -> float:
        """Megapixels per second of the codec alone, on one core."""
        tiles = [encode(part) for part in self.stack[:2, :TILE, :TILE]]
        took = seconds(lambda: [imagecodecs.jpeg8_decode(tile) for tile in tiles * 10], 3)
        return 20 * TILE * TILE / took / 1e6

    def measure_fuse(self) -> None:
        self.worker.fuse(self.stack)
        self.fuse.append(seconds(lambda: self.worker.fuse(self.stack), self.repeats))

    def encode(self) -> float:
        """Megapixels per second of a block's levels and tiles, on one core."""
        side = self.worker.grid.side
        rows = np.arange(side) % self.stack.shape[1]
        pixels = np.ascontiguousarray(self.stack[0][rows][:, rows])
        output = self.worker.outputs[0]
        took = seconds(lambda: make_parts(output, self.worker.grid, Block(0, 0), pixels), 2)
        return side * side / took / 1e6

    def flops(self) -> float:
        """Floating-point operations for each pixel of the result, of convolutions and products."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.worker.fuse(self.stack)
        return counter.get_total_flops() / self.worker.plan.grid.step**2


def fuse_by_command(slide: Path, out: Path, method: str) -> tuple[float, float, float]:
    """Return seconds, processor seconds and peak megabytes of a process that fuses the slide."""
    call = [sys.executable, "-m", "napari_focusfuse.cli", "fuse", str(slide), "-o", str(out)]
    begun = time.perf_counter()
    subprocess.run([*call, "--method", method, "--set", "preset=slide"], check=True)
    took, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def compare_workers(slide: Path, folder: Path, method: str) -> None:
    """Print how much faster two worker processes of one thread are than one."""
    from distributed import Client, LocalCluster

    took = {}
    for count in (1, 2):
        with (
            LocalCluster(count, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.run(_import_torch)
            for label, region in (
                ("warm", Region(0, 0, 1024, 1024)),
                ("measured", Region(0, 0, 6144, 6144)),
            ):
                job = job_of(slide, folder / f"{label}-{count}.ome.tif", method, region)
                begun = time.perf_counter()
                for _ in fuse_slide(job, client=client):
                    pass
                took[label, count] = time.perf_counter() - begun
    one, two = took["measured", 1], took["measured", 2]
    print(f"workers of one thread: one {one:.1f} s, two {two:.1f} s")
    print(f"two are {one / two:.2f} times as fast as one")


def _import_torch() -> None:
    torch.set_num_threads(1)


def report(slide: Path, out: Path, method: str, repeats: int) -> None:
    job = job_of(slide, out, method)
    alone = Alone(job, repeats)
    grid, planes = alone.worker.plan.grid, len(alone.worker.fuser.planes)
    name = alone.worker.plan.info.name
    print(f"{slide.name}: {job.region.width} x {job.region.height} x {planes}, {name}")
    megabytes, threads = slide.stat().st_size / 1e6, torch.get_num_threads()
    print(f"{megabytes:.0f} MB, torch {torch.__version__}, {threads} threads")
    overlap = (grid.tile / grid.step) ** 2
    print(f"tiles of {grid.tile}, {grid.step} apart: {overlap:.2f} pixels read for each one given")
    codec, packing, flops = alone.decode(), alone.encode(), alone.flops()
    alone.measure_fuse()
    wall, processor, peak = fuse_by_command(slide, out, method)
    alone.measure_fuse()
    found = json.loads(out.with_name(f"{out.name}.json").read_text())
    tiles, stages = found["tiles"], found["timing"]["stages"]
    computed, empty = tiles["computed"], tiles["empty"]
    total, once = job.region.width * job.region.height / 1e6, float(np.mean(alone.fuse))
    read, given = computed * grid.tile**2 * planes / 1e6, computed * grid.step**2 / 1e6
    others = stages["decode"] + stages["encode"]
    written = out.stat().st_size / 1e6
    rows = [
        ("decode", read / stages["decode"], codec, f"{read:.0f} Mpx read"),
        ("network", given / (processor - others), given / computed / once, f"{flops:.0f} FLOP/px"),
        ("encode", total / stages["encode"], packing, f"{written:.0f} MB written"),
    ]
    print(f"{'stage':10}{'in the run':>14}{'alone':>12}")
    for name, here, by_itself, note in rows:
        print(f"{name:10}{here:9.2f} MP/s{by_itself:7.2f} MP/s   {note}")
    fusing = stages["fuse"] + stages["wait"]
    busiest = "the network" if stages["fuse"] > stages["wait"] else "decoding"
    print(f"the network waited {stages['wait']:.1f} of {fusing:.1f} s for tiles: {busiest} limits")
    print(f"the network kept {100 * once * computed / processor:.0f} % of its throughput alone")
    print(f"{empty} of {empty + computed} tiles were empty and not fused")
    print(f"{wall:.0f} s, {processor:.0f} s of the processor, peak memory {peak:.0f} MB")
    hours = PAPER_MPX / total * processor / 3600
    print(f"extrapolated to the paper's {PAPER_MPX:.0f} Mpx, as much of it empty:")
    print(f"{hours:.1f} hours of one core, to be shared by as many as there are")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=5 * SQUARE, help="a multiple of 4096 pixels")
    parser.add_argument("--method", default="swift")
    parser.add_argument("--repeats", type=int, default=3, help="tiles for the network alone")
    parser.add_argument("--workers", action="store_true", help="also two dask workers against one")
    parser.add_argument("--folder", type=Path, help="where the slide is made and kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        slide = folder / f"slide-{arguments.side}.ome.tif"
        if not slide.exists():
            make_slide(slide, arguments.side)
        out = Path(temporary) / "fused.ome.tif"
        report(slide, out, arguments.method, arguments.repeats)
        if arguments.workers:
            compare_workers(slide, Path(temporary), arguments.method)


if __name__ == "__main__":
    main()
