"""What the classical methods cost: python benchmarks/methods.py [--device cuda] [--stream]

Seconds per megapixel of picture for three layers, without tiling: on a CPU those of one core, which
other programs disturb little.  Beside it the least that memory allows, each value of the layers
read once and each of the picture written once, at the speed of a plain copy; and the memory of one
tile of 30 layers.  --stream fuses 30 layers of 5 and of 20 megapixels that are never in memory as a
whole.  Each figure comes from a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.fusion.classical import CLASSICAL
from napari_focusfuse.fusion.method import FusionMethod
from napari_focusfuse.fusion.plan import DEFAULT, tile_grid
from napari_focusfuse.fusion.stack import fuse_stack

SIDE = 1024
MEGAPIXELS = SIDE * SIDE / 1e6
LAYERS, MANY = 3, 30
REPEATS = 3


class Repeated:
    """A plane of any size that repeats a small texture; only what is read is ever made."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        rng = np.random.default_rng(seed)
        self._texture = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        self.shape, self.dtype = (height, width, 3), self._texture.dtype

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        sides = zip(place, self.shape[:2], strict=True)
        rows, columns = (np.arange(*part.indices(side)) % 256 for part, side in sides)
        return self._texture[np.ix_(rows, columns)]


def peak_mb() -> float:
    """Return the most memory this process has held so far, on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e6


def best(function: Callable[[], object], device: str) -> float:
    """Return the shortest of some runs, in seconds, the first left out."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    seconds = []
    for _ in range(REPEATS + 1):
        start = clock()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return min(seconds[1:])


def speed(name: str, device: str) -> dict[str, float]:
    """Time one method on three layers, where they lie: on a GPU the transfers are left out."""
    method = load_method(name, device)
    stack = np.random.default_rng(0).random((LAYERS, SIDE, SIDE, 3), dtype=np.float32)
    if device == "cpu":
        return {"s_per_mpx": best(lambda: method.compute(stack[None]), device) / MEGAPIXELS}
    return {"s_per_mpx": best(on_device(method, stack), device) / MEGAPIXELS}


def on_device(method: FusionMethod, stack: np.ndarray) -> Callable[[], object]:
    """Return the fusion of planes that are on the device already."""
    planes = torch.from_numpy(stack).to(method.device)
    fuse = torch.inference_mode()(method.fuse_planes)
    return lambda: fuse(planes)


def copy_floor(device: str) -> float:
    """Return the seconds per megapixel in which memory could carry three layers and a picture."""
    source = torch.rand(64 << 20, device=device)
    target = torch.empty_like(source)
    bytes_per_second = 2 * 4 * source.numel() / best(lambda: target.copy_(source), device)
    return (LAYERS + 1) * 3 * 4 * 1e6 / bytes_per_second


def memory(name: str) -> dict[str, float]:
    """Return what one tile of many layers takes beyond the method and the layers themselves."""
    method = load_method(name, "cpu")
    side = tile_grid(method.info, DEFAULT).tile
    stack = np.random.default_rng(0).random((1, MANY, side, side, 3), dtype=np.float32)
    before = peak_mb()
    method(stack)
    return {"tile": side, "stack_mb": stack.nbytes / 1e6, "more_mb": peak_mb() - before}


def stream(name: str, megapixels: int) -> dict[str, float]:
    """Fuse many layers that are read tile by tile; return the process's peak memory."""
    height = round((megapixels * 1e6) ** 0.5)
    planes = [Repeated(seed, height, height) for seed in range(MANY)]
    start = time.perf_counter()
    fuse_stack(planes, name, device="cpu")
    return {"peak_mb": peak_mb(), "seconds": time.perf_counter() - start}


def alone(*words: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", *words], check=True, stdout=subprocess.PIPE
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def tables(device: str, names: list[str]) -> None:
    """Print what methods cost."""
    floor = copy_floor(device)
    print(f"{LAYERS} layers, {SIDE} px, {device}, {torch.get_num_threads()} threads")
    print(f"memory traffic alone: {floor:.2g} s per Mpx\n")
    print(
        "| method | s per Mpx | times the traffic | MB for a tile of 30 layers |\n"
        + "| --- " * 4
        + "|"
    )
    for name in names:
        seconds = alone("speed", name, device)["s_per_mpx"]
        held = alone("memory", name) if device == "cpu" else {}
        more = f"{held['stack_mb'] + held['more_mb']:.0f} ({held['tile']} px)" if held else "-"
        print(f"| {name} | {seconds:.3g} | {seconds / floor:.1f} | {more} |", flush=True)


def streams(names: list[str]) -> None:
    """Print what streaming takes."""
    print(f"{MANY} layers read tile by tile: peak memory of the whole process\n")
    print("| method | Mpx a layer | MB | s |\n| --- | --- | --- | --- |")
    for name in names:
        for megapixels in (5, 20):
            found = alone("stream", name, str(megapixels))
            cells = f"{megapixels} | {found['peak_mb']:.0f} | {found['seconds']:.0f}"
            print(f"| {name} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", help="all classical ones; argmax for --stream")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.only:
        what, name, *rest = arguments.only
        measured = {
            "speed": lambda: speed(name, *rest),
            "memory": lambda: memory(name),
            "stream": lambda: stream(name, *map(int, rest)),
        }[what]()
        print(json.dumps(measured))
    elif arguments.stream:
        streams(arguments.methods or ["argmax"])
    else:
        tables(arguments.device, arguments.methods or [info.name for info in CLASSICAL])


if __name__ == "__main__":
    main()
