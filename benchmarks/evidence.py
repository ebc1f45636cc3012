"""Print how weighed evidence compares where planes nearly agree and where they differ.

Drawn smears whose cells lie over each other or on a height map, and with --data the held-out fields
of the CRIC data set on height maps.  "Strong": heights of +-8 um, planes 2.7 um apart; "mild":
planes 0.5 um apart within +-1 um (3 planes) or +-2.5 um (11), which show nearly the same.  Noise:
20000 or 2000 electrons in a white pixel.  The score is SSIM-paper, mean over the seeds, against two
truths: one with the noise of the plane that is nearest to each pixel, by which denoising earns
nothing and the oracle, which knows that plane, most; and one without noise.

Then, on flat grey, the noise of the result over that of the planes' mean, as standard deviations in
grey; on the shipped algae, three layers fused by each method against all five by each; and the time
of each, in turn, the fastest of three, in time of the processor on one thread.

Usage: python benchmarks/evidence.py [--seeds 2] [--side 256] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from focusfuse_training.benchmark_sets import BenchmarkSet
from napari_focusfuse.benchmark_definition import BORDER_PX, CAMERA, SEEDS, data_set
from napari_focusfuse.defocus import Camera, expose
from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.metrics import ssim_paper
from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import UInt8Image

METHODS = ("argmax", "pyramid", "dtcwt", "evidence")
RIVALS = ("mean", "pyramid", "dtcwt")
COLUMNS = ("mean", *METHODS, "oracle")
ELECTRONS = {"low": 20000.0, "high": 2000.0}
ALIGNED_PX = 32


def sets(fields: Sequence[UInt8Image]) -> Iterator[tuple[str, int, BenchmarkSet]]:
    """Yield the title, the number of planes and the definition of each kind of stack."""
    specimens = [("overlapping", True), ("apart", False), *([("CRIC", False)] if fields else [])]
    for name, overlapping in specimens:
        for blur, step, depths in (
            ("strong", 2.7, {3: 8.0, 11: 8.0}),
            ("mild", 0.5, {3: 1.0, 11: 2.5}),
        ):
            for noise, electrons in ELECTRONS.items():
                for layers, depth in depths.items():
                    title = f"{name}, {blur}, {noise} noise, {layers} planes"
                    kind = BenchmarkSet(
                        name,
                        title,
                        depths_um=(depth,),
                        layers=(layers,),
                        overlapping=overlapping,
                        z_step_um=step,
                        camera=replace(CAMERA, electrons=electrons),
                        noisy_truth=True,
                    )
                    yield title, layers, kind


def fuse_all(planes: UInt8Image) -> dict[str, UInt8Image]:
    """Return the picture of each method, and the mean."""
    stack = planes.astype(np.float32)[None] / 255
    pictures = {name: to_uint8(load_method(name, "cpu")(stack)[0]) for name in METHODS}
    return {"mean": np.rint(planes.mean(axis=0)).astype(np.uint8), **pictures}


def compare(fields: Sequence[UInt8Image], seeds: int, side: int) -> None:
    """Print the tables of simulated stacks."""
    rows: dict[bool, list[tuple[str, dict[str, float]]]] = {True: [], False: []}
    for title, layers, kind in sets(fields):
        scores: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for seed in SEEDS[:seeds]:
            field = fields[seed % len(fields)] if kind.name == "CRIC" else None
            place = (kind.depths_um[0], seed)
            stack = kind.stack(*place, layers, (side, side), field)
            # The truth without noise is the same for any planes: one is soonest rendered.
            clean = replace(kind, noisy_truth=False).stack(*place, 1, (side, side), field)
            pictures = {**fuse_all(stack.planes), "oracle": stack.oracle}
            for is_noisy, truth in ((True, stack.truth_all), (False, clean.truth_all)):
                scores[is_noisy].append(
                    {name: ssim_paper(p, truth, BORDER_PX) for name, p in pictures.items()}
                )
        for is_noisy, found in scores.items():
            means = {name: float(np.mean([s[name] for s in found])) for name in COLUMNS}
            rows[is_noisy].append((title, means))
        print(f"  {title}", flush=True)
    for is_noisy, found_rows in rows.items():
        _print(f"SSIM-paper, truth {'with' if is_noisy else 'without'} noise", found_rows)


def _print(head: str, rows: Sequence[tuple[str, dict[str, float]]]) -> None:
    print(f"\n{head:44}{''.join(f'{name:>10}' for name in COLUMNS)}{'- best':>10}{'- oracle':>10}")
    average = {name: float(np.mean([scores[name] for _, scores in rows])) for name in COLUMNS}
    margins = []
    for title, scores in (*rows, ("mean of all", average)):
        ours = scores["evidence"]
        margins.append(ours - max(scores[name] for name in RIVALS))
        figures = "".join(f"{scores[name]:10.4f}" for name in COLUMNS)
        print(f"{title:44}{figures}{margins[-1]:+10.4f}{ours - scores['oracle']:+10.4f}")
    print(f"least margin over the best of {', '.join(RIVALS)}: {min(margins[:-1]):+.4f}")


def noise() -> None:
    """Print the noise left on a flat background."""
    print(f"\n{'flat grey: noise / that of the mean':44}{''.join(f'{n:>10}' for n in METHODS)}")
    rng = np.random.default_rng(0)
    light = np.full((256, 256, 3), 0.9, np.float32)
    for planes in (3, 11):
        for electrons in ELECTRONS.values():
            for quality in (None, 90):
                camera = Camera(electrons, 0.0, quality)
                shots = [rng.standard_normal(light.shape, dtype=np.float32) for _ in range(planes)]
                stack = np.stack([expose(light, shot, camera) for shot in shots])[None]
                spread = {
                    name: _spread(load_method(name, "cpu")(stack.astype(np.float32) / 255)[0])
                    for name in METHODS
                }
                least = _spread(stack[0].mean(axis=0) / 255)
                kind = "uncompressed" if quality is None else f"JPEG {quality}"
                title = f"{planes} planes, {electrons:.0f} electrons, {kind}"
                print(f"{title:44}{''.join(f'{spread[n] / least:10.3f}' for n in METHODS)}")


def _spread(image: np.ndarray) -> float:
    luma = image @ np.array([0.299, 0.587, 0.114])
    return float(luma[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].std())


def algae(side: int = 1024) -> None:
    """Print how far the fusion of three real layers is from that of all five."""
    sample = files("napari_focusfuse") / "samples" / "algae.ome.tif"
    with as_file(sample) as path, open_slide(path) as slide:
        corner = (slide.levels[0].height - side) // 2, (slide.levels[0].width - side) // 2
        stack = np.stack([slide.read_region(p, 0, *corner, side, side) for p in slide.planes])
    references, pictures = fuse_all(stack), fuse_all(stack[1:4])
    names = ("mean", *METHODS)
    print(f"\n{'algae, 3 layers by .. against 5 by ..':44}{''.join(f'{n:>10}' for n in names)}")
    for row in names:
        scores = [ssim_paper(pictures[row], references[name], BORDER_PX) for name in names]
        print(f"{row:44}{''.join(f'{score:10.4f}' for score in scores)}")


def speed(side: int = 1024) -> None:
    """Print what each method takes."""
    torch.set_num_threads(1)
    stack = np.random.default_rng(0).random((1, 3, side, side, 3), dtype=np.float32)
    loaded = {name: load_method(name, "cpu") for name in METHODS}
    best = dict.fromkeys(METHODS, float("inf"))
    for _ in range(3):
        for name, method in loaded.items():
            started = time.process_time()
            method(stack)
            best[name] = min(best[name], time.process_time() - started)
    print(f"\n{'three planes':44}{''.join(f'{n:>10}' for n in METHODS)}")
    seconds = {name: taken / side**2 * 1e6 for name, taken in best.items()}
    print(f"{'s per Mpx, one core':44}{''.join(f'{seconds[n]:10.3f}' for n in METHODS)}")
    ratios = "".join(f"{seconds[n] / seconds['argmax']:10.2f}" for n in METHODS)
    print(f"{'times argmax':44}{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    fields = data_set().read(options.data, "test") if options.data else []
    compare(fields, options.seeds, options.side // ALIGNED_PX * ALIGNED_PX)
    noise()
    algae()
    speed()


if __name__ == "__main__":
    main()
