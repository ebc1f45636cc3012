"""Which settings of the classical methods fuse best: python benchmarks/settings.py --data CRIC

Three layers of drawn smears and of training fields of the data set, laid on height maps, at two
depth ranges; seeds that no published score uses.  SSIM-paper and PSNR against the truth, mean over
the stacks of a kind.  The defaults in src/napari_focusfuse/fusion/classical.py say what was chosen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from napari_focusfuse.benchmark_definition import (
    BORDER_PX,
    SimulatedStack,
    benchmark_stack,
    data_set,
    drawn_stack,
)
from napari_focusfuse.fusion.catalogue import load_method, method_info
from napari_focusfuse.fusion.method import FusionMethod
from napari_focusfuse.metrics import psnr, ssim_paper
from napari_focusfuse.pixels import to_uint8

DEPTHS_UM = (4.0, 8.0)
SEEDS = (100, 101)
"""The published scores use seeds 0 to 4."""

FIELD = np.s_[:768, :1024]
"""The part of a field that is used."""

GRIDS: dict[str, Mapping[str, tuple[float, ...]]] = {
    "argmax": {"energy_sigma": (2.0, 4.0, 6.0), "decision_sigma": (1.5, 3.0, 6.0, 9.0)},
    "pyramid": {"levels": (4, 5), "window": (1, 3, 5, 7, 9)},
    "dtcwt": {"levels": (4, 5), "window": (1, 3)},
    "complex-wavelet": {"levels": (4, 5)},
    "wavelet": {"levels": (4, 5)},
    "guided": {"base_radius": (45,)},  # its paper's settings, for comparison
}


def settings_of(name: str) -> Iterator[dict[str, float]]:
    """Yield every combination of a method's grid."""
    grid = GRIDS[name]
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def sweep(name: str, kinds: Mapping[str, list[SimulatedStack]]) -> None:
    """Print one method's table."""
    info = method_info(name)
    columns = [*GRIDS[name], *(f"{kind}: SSIM-paper | PSNR" for kind in kinds), "s per Mpx"]
    print(f"\n**{name}**\n\n| {' | '.join(columns)} |")
    print("| --- " * (len(columns) + len(kinds)) + "|")
    for settings in settings_of(name):
        # The reach plays no part in a stack fused whole.
        multiple_of = 2 ** int(settings["levels"]) if "levels" in settings else info.multiple_of
        mine = replace(info, multiple_of=multiple_of, settings={**info.settings, **settings})
        method = load_method(mine, "cpu")
        cells = [f"{value:g}" for value in settings.values()]
        seconds: list[float] = []
        for stacks in kinds.values():
            ssim, decibels, cost = np.mean([judge(method, stack) for stack in stacks], axis=0)
            cells += [f"{ssim:.4f}", f"{decibels:.2f}"]
            seconds.append(cost)
        default = " (default)" if mine.settings == info.settings else ""
        print(f"| {' | '.join(cells)} | {np.mean(seconds):.2f}{default} |", flush=True)


def judge(method: FusionMethod, stack: SimulatedStack) -> tuple[float, float, float]:
    """Return SSIM-paper, PSNR, and CPU seconds per megapixel of one fusion."""
    planes, truth = stack.planes[None].astype(np.float32) / 255, stack.truth_all
    start = time.process_time()
    fused = to_uint8(method(planes)[0])
    seconds = time.process_time() - start
    scores = ssim_paper(fused, truth, BORDER_PX), psnr(fused, truth, BORDER_PX)
    return *scores, seconds / truth[..., 0].size * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(GRIDS)}; all")
    parser.add_argument("--data", type=Path, help="folder of the CRIC images; drawn smears only")
    arguments = parser.parse_args()
    print(f"Three layers, depths +-{DEPTHS_UM} um, seeds {SEEDS}; CPU seconds of all cores.")
    kinds = {"drawn": [drawn_stack(depth, seed) for depth in DEPTHS_UM for seed in SEEDS]}
    if arguments.data is not None:
        fields = [image[FIELD] for image in data_set().read(arguments.data, "train")[: len(SEEDS)]]
        pairs = list(zip(fields, SEEDS, strict=True))
        kinds["CRIC"] = [
            benchmark_stack(image, d, seed) for d in DEPTHS_UM for image, seed in pairs
        ]
    for name in arguments.methods or GRIDS:
        sweep(name, kinds)


if __name__ == "__main__":
    main()
