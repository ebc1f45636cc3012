"""Print how long the swift and the paper's networks take for a megapixel, masks included.

Both run in turn on the same tile, so that a busy machine slows both alike; of each, the fastest run
counts.  Weights are random: they do not change the time.  "Equal" compares them at one precision
and memory format; "best" takes the fastest setting of each.  A megapixel of picture costs more than
one of tile, because tiles overlap: the last lines count that too, the paper's with its own tiling
of 512 px tiles and 128 px overlap, swift's with the margin that makes it exact.

On a busy machine "--clock cpu" counts the time the processor spent on us, per thread, in place of
the time on the wall.

Usage: python benchmarks/view.py [--planes 1 3] [--tile 384] [--repeats 2] [--preset code]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from napari_focusfuse.fusion.method import MethodInfo
from napari_focusfuse.fusion.plan import DEFAULT, PAPER, Preset, tile_grid
from napari_focusfuse.models import build

SETTINGS = (
    ("float32", "NCHW"),
    ("float32", "channels_last"),
    ("bfloat16", "channels_last"),
)
SWIFT_TILES = (512, 1024)
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {
    "wall": time.perf_counter,
    "cpu": lambda: time.process_time() / torch.get_num_threads(),
}


@dataclass
class Contender:
    """A generator and the blur model whose mask comes with it."""

    name: str
    generator: nn.Module
    blur: nn.Module
    run: Callable[[nn.Module, nn.Module, Tensor], object]

    def seconds(self, planes: Tensor, dtype: str, memory: str, clock: Clock) -> float:
        layout = torch.channels_last if memory == "channels_last" else torch.contiguous_format
        generator, blur = (net.to(memory_format=layout) for net in (self.generator, self.blur))
        planes = planes.contiguous(memory_format=layout)
        low = dtype == "bfloat16"
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            started = clock()
            self.run(generator, blur, planes)
            return clock() - started

    def gmac(self, planes: Tensor) -> float:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self.run(self.generator, self.blur, planes)
        return counter.get_total_flops() / 2e9


def paper_pass(generator: nn.Module, blur: nn.Module, planes: Tensor) -> object:
    """Every plane's mask is an input of the generator; layer 0's is the one that is shown."""
    masks = blur(planes).float().softmax(1)[:, 1:]
    return generator(torch.cat([planes, masks], dim=1).flatten(0, 1)[None])


def swift_pass(generator: nn.Module, blur: nn.Module, planes: Tensor) -> object:
    """The mask is only shown, so layer 0's is all there is to compute."""
    middle = len(planes) // 2
    mask = blur(planes[middle : middle + 1]).float().softmax(1)[:, 1]
    return generator(planes.flatten(0, 1)[None]), mask


def contenders(planes: int, preset: str) -> tuple[Contender, Contender]:
    torch.manual_seed(0)
    swift = build("swift", {"planes": planes}).eval(), build("small-blur", {}).eval()
    paper = (
        build("generator", {"planes": planes, "preset": preset}).eval(),
        build("blur", {"preset": preset}).eval(),
    )
    return Contender("swift", *swift, swift_pass), Contender(
        f"paper ({preset})", *paper, paper_pass
    )


def measure(planes: int, tile: int, repeats: int, preset: str, clock: Clock) -> None:
    swift, paper = contenders(planes, preset)
    image = torch.rand(planes, 3, tile, tile)
    megapixels = tile * tile / 1e6
    fastest: dict[tuple[str, str, str], float] = {}
    for _ in range(repeats):
        for setting in SETTINGS:
            # The swift pair is timed on both sides of the slow one.
            for contender in (swift, paper, swift):
                seconds = contender.seconds(image, *setting, clock) / megapixels
                key = (contender.name, *setting)
                fastest[key] = min(seconds, fastest.get(key, seconds))
    floors = {c.name: c.gmac(image) / megapixels for c in (swift, paper)}
    print(f"\n{planes} focus layer(s), {tile} px tile, {torch.get_num_threads()} threads")
    print(f"{'':34}{swift.name:>12}{paper.name:>16}{'ratio':>8}")
    row("GMAC per Mpx of tile", floors[swift.name], floors[paper.name])
    for setting in SETTINGS:
        times = [fastest[name, *setting] for name in (swift.name, paper.name)]
        row(f"equal: {' '.join(setting)}, s/Mpx", *times)
    best = [min(fastest[c.name, *s] for s in SETTINGS) for c in (swift, paper)]
    row("best of each, s per Mpx of tile", *best)
    for size in SWIFT_TILES:
        row(
            f"... per Mpx of picture, swift {size}",
            best[0] * overlap(swift, DEFAULT, size),
            best[1] * overlap(paper, PAPER, PAPER.tile),
        )


def row(title: str, swift: float, paper: float) -> None:
    print(f"{title:34}{swift:12.2f}{paper:16.2f}{paper / swift:8.1f}")


def overlap(contender: Contender, preset: Preset, tile: int) -> float:
    """Return how many pixels of tile one pixel of picture costs."""
    reach = max(contender.generator.reach, contender.blur.reach)
    info = MethodInfo(contender.name, contender.name, "restoration", None, reach)
    grid = tile_grid(info, Preset(preset.name, tile, preset.margin, preset.ramp))
    return (grid.tile / grid.step) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planes", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--tile", type=int, default=384, help="multiple of 16")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--preset", choices=("code", "paper"), default="code")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    arguments = parser.parse_args()
    for planes in arguments.planes:
        measure(
            planes, arguments.tile, arguments.repeats, arguments.preset, CLOCKS[arguments.clock]
        )


if __name__ == "__main__":
    main()
