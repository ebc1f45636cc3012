"""Print how long the swift and the paper's networks take for a megapixel, masks included.

Both run in turn on the same tile, so that a busy machine slows both alike; of each, the fastest run
counts.  Weights are random: they do not change the time.  "Equal" compares them at one precision
and memory format; "best" takes the fastest setting of each.  "Cast" has the weights in bfloat16,
"autocast" converts them as it goes.  A megapixel of picture costs more than one of tile, because
tiles overlap: two lines count that too, the paper's with its own tiling of 512 px tiles and 128 px
overlap, swift's with the margin that makes it exact and the tiles of the window or of whole slides.

Then the swift generator alone, exported, in other runtimes: ONNX Runtime (extra onnx), and
OpenVINO where somebody installed it.

On a busy machine "--clock cpu" counts the time the processor spent on us, per thread, in place of
the time on the wall.

Usage: python benchmarks/models.py [--planes 1 3] [--tile 384] [--repeats 2] [--preset code]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from napari_focusfuse.fusion.method import MethodInfo
from napari_focusfuse.fusion.neural import fast_dtype
from napari_focusfuse.fusion.plan import DEFAULT, PAPER, SLIDE, Preset, tile_grid
from napari_focusfuse.model_card import ModelCard
from napari_focusfuse.models import build
from napari_focusfuse.models.swift import SwiftGenerator
from napari_focusfuse.onnx_export import export_onnx
from napari_focusfuse.weights import save_model

SETTINGS = (
    "float32 NCHW",
    "float32 channels_last",
    "bfloat16 autocast channels_last",
    "bfloat16 cast channels_last",
)
FLOAT32 = SETTINGS[:2]
TILINGS = {"in the window": DEFAULT, "of a whole slide": SLIDE}
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

    @cached_property
    def low(self) -> tuple[nn.Module, nn.Module]:
        """Both networks with their weights in bfloat16."""
        return cast(deepcopy(self.generator)), cast(deepcopy(self.blur))

    def seconds(self, planes: Tensor, setting: str, clock: Clock) -> float:
        nets = self.low if "cast" in setting.split() else (self.generator, self.blur)
        nchw = setting.endswith("NCHW")
        layout = torch.contiguous_format if nchw else torch.channels_last
        generator, blur = (net.to(memory_format=layout) for net in nets)
        planes = planes.contiguous(memory_format=layout)
        with torch.inference_mode(), autocast("autocast" in setting):
            started = clock()
            self.run(generator, blur, planes)
            return clock() - started

    def gmac(self, planes: Tensor) -> float:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self.run(self.generator, self.blur, planes)
        return counter.get_total_flops() / 2e9


def autocast(enabled: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def cast(network: nn.Module) -> nn.Module:
    """Return a network of bfloat16 weights that takes float32."""

    def lowered(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(each.bfloat16() for each in inputs)

    network.bfloat16()
    if isinstance(network, SwiftGenerator):  # its selection and its blend stay in float32
        layers = network._features
        network._features = lambda inputs, told: layers(inputs.bfloat16(), told.bfloat16())
    else:
        network.register_forward_pre_hook(lowered)
    return network


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


def measure(planes: int, tile: int, repeats: int, form: str, clock: Clock) -> None:
    """Compare the networks, and print what fast_dtype would take."""
    swift, paper = contenders(planes, form)
    image = torch.rand(planes, 3, tile, tile)
    megapixels = tile * tile / 1e6
    fastest: dict[tuple[str, str], float] = {}
    for _ in range(repeats):
        for setting in SETTINGS:
            # The swift pair is timed on both sides of the slow one.
            for contender in (swift, paper, swift):
                seconds = contender.seconds(image, setting, clock) / megapixels
                key = (contender.name, setting)
                fastest[key] = min(seconds, fastest.get(key, seconds))
    floors = {c.name: c.gmac(image) / megapixels for c in (swift, paper)}
    print(f"\n{planes} focus layer(s), {tile} px tile, {torch.get_num_threads()} threads")
    print(f"{'':46}{swift.name:>10}{paper.name:>14}{'ratio':>8}")
    row("GMAC per Mpx of tile", floors[swift.name], floors[paper.name])
    for setting in SETTINGS:
        times = [fastest[name, setting] for name in (swift.name, paper.name)]
        row(f"equal: {setting}, s/Mpx", *times)
    best = [min(fastest[c.name, s] for s in SETTINGS) for c in (swift, paper)]
    row("best of each, s per Mpx of tile", *best)
    for where, preset in TILINGS.items():
        times = best[0] * overlap(swift, preset, planes), best[1] * overlap(paper, PAPER, planes)
        row(f"... per Mpx of picture {where}", *times)
    for contender in (swift, paper):
        high = min(fastest[contender.name, s] for s in FLOAT32)
        low = min(fastest[contender.name, s] for s in SETTINGS if s not in FLOAT32)
        times = f"{high / low:.2f} times as fast as"
        print(
            f"{contender.name}: bfloat16 is {times} float32; the plugin takes {fast_dtype('cpu')}"
        )


def row(title: str, swift: float, paper: float) -> None:
    print(f"{title:46}{swift:10.2f}{paper:14.2f}{paper / swift:8.1f}")


def overlap(contender: Contender, preset: Preset, planes: int) -> float:
    """Return how many pixels of tile one pixel of picture costs."""
    reach = max(contender.generator.reach, contender.blur.reach)
    info = MethodInfo(contender.name, contender.name, "restoration", None, reach)
    grid = tile_grid(info, preset, planes)
    return (grid.tile / grid.step) ** 2


# ------------------------------------------------------------------ other runtimes


def runtimes(planes: int, tile: int, repeats: int, clock: Clock) -> None:
    """Print what the swift generator takes alone, exported, beside PyTorch."""
    network = build("swift", {"planes": planes}).eval()
    image = torch.rand(1, 3 * planes, tile, tile)
    runs = dict(engines(network, planes, image))
    fastest = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats + 1):
        for name, run in runs.items():
            started = clock()
            run()
            fastest[name] = min(fastest[name], clock() - started)
    print(
        f"\nswift alone, {planes} focus layer(s): s/Mpx, and times as fast as PyTorch at its best"
    )
    best = min(seconds for name, seconds in fastest.items() if name.startswith("PyTorch"))
    for name, seconds in fastest.items():
        print(f"{name:46}{seconds * 1e6 / tile**2:10.2f}{best / seconds:14.2f}")


def engines(
    network: nn.Module, planes: int, image: Tensor
) -> Iterator[tuple[str, Callable[[], object]]]:
    threads = torch.get_num_threads()
    network.to(memory_format=torch.channels_last)
    last = image.contiguous(memory_format=torch.channels_last)

    def ours(*, low: bool) -> object:
        with torch.inference_mode(), autocast(low):
            return network(last)

    yield "PyTorch float32", lambda: ours(low=False)
    yield "PyTorch bfloat16 autocast", lambda: ours(low=True)
    content = exported(network, planes)
    fed = {"planes": image.numpy(), "sampling": np.zeros((1, planes), np.float32)}
    if content and find_spec("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        yield f"ONNX Runtime {onnxruntime.__version__}", lambda: session.run(None, fed)
    if content and find_spec("openvino"):
        import openvino

        core = openvino.Core()
        for kind in ("f32", "bf16"):
            hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": kind}
            compiled = core.compile_model(core.read_model(content), "CPU", hints)
            yield f"OpenVINO {openvino.__version__[:8]} {kind}", lambda it=compiled: it(fed)


def exported(network: nn.Module, planes: int) -> bytes:
    """Return the network as ONNX; nothing where the extra is not installed."""
    if not find_spec("onnxscript"):
        return b""
    offsets = tuple(range(-(planes // 2), planes // 2 + 1))
    card = ModelCard("swift", "swift", "swift", {"planes": planes}, offsets, 0, 8)
    with tempfile.TemporaryDirectory() as folder:
        model, target = Path(folder, "swift.safetensors"), Path(folder, "swift.onnx")
        save_model(model, network, card)
        export_onnx(model, target)
        return target.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planes", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--tile", type=int, default=384, help="multiple of 16")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--preset", choices=("code", "paper"), default="code")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    able = torch.cpu.get_capabilities()
    native = ", ".join(name for name in ("avx512_bf16", "amx_bf16") if able.get(name))
    print(f"{able.get('cpu_name', 'unknown CPU')}, bfloat16 by {native or 'nothing'}; ", end="")
    print(f"PyTorch {torch.__version__}, {arguments.clock} clock")
    for planes in arguments.planes:
        measure(planes, arguments.tile, arguments.repeats, arguments.preset, clock)
        runtimes(planes, arguments.tile, arguments.repeats, clock)


if __name__ == "__main__":
    main()
