"""Score what other programs make of the same planes, beside our own methods.

``write`` renders the benchmark's stacks of three planes and cuts the shipped algae, a folder of
PNGs for each, named by increasing z.  Run any tool on each folder and save its picture as
``TOOL/<case>.png``; ``score`` then judges those folders of pictures and all our methods alike.
Nothing of another program is needed here.  Results, and how each tool was run: logs/rivals.md.

Usage: python benchmarks/rivals.py write DIR
       python benchmarks/rivals.py score TOOL_FOLDER ... [--methods NAME,...]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

from focusfuse_training.benchmark_sets import BENCHMARK_SETS
from focusfuse_training.contest import StackTask, fuse_all
from focusfuse_training.scoring import ORACLE
from napari_focusfuse.benchmark_definition import BORDER_PX, SimulatedStack
from napari_focusfuse.fusion_quality import quality
from napari_focusfuse.metrics import ssim_paper
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import UInt8Image

SIDE = 512
SEEDS = (0, 1)


@dataclass(frozen=True)
class Case:
    """Planes to fuse, and the truth if there is one."""

    name: str
    group: str
    """Cases that are averaged."""
    planes: UInt8Image
    stack: SimulatedStack | None = None

    def judge(self, image: UInt8Image) -> float:
        """Return SSIM-paper against the truth, or Q^AB/F where there is none."""
        if self.stack is None:
            return quality(image, self.planes, BORDER_PX)["Q_ABF"]
        return ssim_paper(image, self.stack.truth_all, BORDER_PX)


def cases() -> Iterator[Case]:
    """Yield the benchmark's stacks of three planes, and three and five planes of the algae."""
    for kind in BENCHMARK_SETS:
        for depth in kind.depths_um:
            for seed in SEEDS:
                stack = StackTask(kind, depth, seed, 3, SIDE).render()
                group = f"{kind.name} {depth:g} um"
                name = f"{group} {seed}".replace(",", "").replace(" ", "-")
                yield Case(name, group, stack.planes, stack)
    sample = files("napari_focusfuse") / "samples" / "algae.ome.tif"
    with as_file(sample) as path, open_slide(path) as slide:
        height, width = slide.levels[0].shape
        box = (height - SIDE) // 2, (width - SIDE) // 2, SIDE, SIDE
        planes = np.stack([slide.read_region(plane, 0, *box) for plane in slide.planes])
    yield Case("algae-3", "algae, 3 planes (Q_ABF)", planes[1:4])
    yield Case("algae-5", "algae, 5 planes (Q_ABF)", planes)


def write(folder: Path) -> None:
    """Write the planes of every case."""
    for case in cases():
        (folder / case.name).mkdir(parents=True, exist_ok=True)
        for index, plane in enumerate(case.planes):
            Image.fromarray(plane).save(folder / case.name / f"{index + 1}.png")
        print(f"{folder / case.name}: {len(case.planes)} planes")


def score(tools: list[Path], wanted: tuple[str, ...]) -> None:
    """Print the mean of every tool and method over the stacks of each group."""
    found: dict[str, dict[str, list[float]]] = {}
    for case in cases():
        pictures = {
            name: image
            for given, name, image in fuse_all(case.planes, wanted)
            if given == len(case.planes)
        }
        if case.stack is not None:
            pictures[ORACLE] = case.stack.oracle
        for tool in tools:
            path = tool / f"{case.name}.png"
            if path.is_file():
                pictures[f"**{tool.name}**"] = np.asarray(Image.open(path).convert("RGB"))
        for name, image in pictures.items():
            row = found.setdefault(name, {})
            row.setdefault(case.group, []).append(case.judge(image))
    groups = list(dict.fromkeys(group for row in found.values() for group in row))
    print("| method | " + " | ".join(groups) + " |")
    print("|---" * (len(groups) + 1) + "|")
    for name, row in found.items():
        cells = (f"{np.mean(row[group]):.4f}" if group in row else "–" for group in groups)
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("write", "score"))
    parser.add_argument("folder", type=Path, help="for the planes, or of fused pictures")
    parser.add_argument("tools", type=Path, nargs="*", help="more folders of fused pictures")
    parser.add_argument("--methods", default="", help="only these of ours, by comma")
    options = parser.parse_args()
    if options.task == "write":
        write(options.folder)
    else:
        wanted = tuple(filter(None, options.methods.split(",")))
        score([options.folder, *options.tools], wanted)


if __name__ == "__main__":
    main()
