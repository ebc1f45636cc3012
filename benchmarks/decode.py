"""Print how fast MIRAX slides are read, beside OpenSlide on the same file in the same run.

The slide is generated: photos of 4 x 4 JPEG images of 344 x 256 pixels, 4:2:0, quality 80, at
places of their own with 40 pixels of overlap.  Regions follow each other in rows, as when a slide
is fused, or lie anywhere; both readers get the same ones in the same order, twice, and the second
pass counts, so that lists are read and memory is taken; their caches of 32 MB each hold less than a
pass.  They take turns, and of each the fastest turn counts, in time of the processor, so that a
busy machine slows both alike.  OpenSlide gives RGBA pictures; the array is the RGB that we give.

"Codec alone" is the floor: libjpeg-turbo decodes each image that the regions touch once, and that
is all.  No reader that decodes by it and keeps images can be faster.

Opening and trials in a child are measured on the clock of the wall.  The large index has 848,640
images in each of 12 focus slots and one payload.

Usage: python benchmarks/decode.py [--repeats 5] [--side 6400]
"""

from __future__ import annotations

import argparse
import itertools
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from czi_files import write_czi
from mrxs_files import FIRST_PAYLOAD, Layout, Slot, focus_slots, write_mrxs
from napari_focusfuse.readers import probe
from napari_focusfuse.readers.mrxs import MiraxSlide, open_mrxs
from slide_files import write_aperio

Place = tuple[int, int]

LAYOUT = Layout(
    tile=(256, 344),
    divisions=4,
    overlap=(40, 40),
    jitter=6,
    positions="vimslide",
    zooms=4,
    codec="JPEG",
    quality=80,
    subsampling=2,
)


def scene(seed: int, side: int) -> np.ndarray:
    """Return a picture whose tiles compress to about 1.2 bits per pixel."""
    rng = np.random.default_rng(seed)
    coarse = gaussian_filter(rng.standard_normal((side // 4 + 1, side // 4 + 1, 3)), (2, 2, 0))
    fine = coarse.astype(np.float32).repeat(4, 0).repeat(4, 1)[:side, :side] * 150 + 190
    grain = rng.standard_normal((side, side, 1), dtype=np.float32)
    return np.clip(fine + 2.5 * grain, 0, 255).astype(np.uint8)


def rows(shape: Place, side: int, count: int) -> list[Place]:
    """Return places of regions that follow each other."""
    grid = itertools.product(
        range(100, shape[0] - side, side), range(60, max(61, shape[1] - side), side)
    )
    return list(itertools.islice(grid, count))


def anywhere(shape: Place, side: int, count: int) -> list[Place]:
    rng = np.random.default_rng(1)
    return [
        (int(rng.integers(shape[0] - side)), int(rng.integers(shape[1] - side)))
        for _ in range(count)
    ]


def by_openslide(path: Path, level: int, places: list[Place], side: int, rgb: bool) -> float:
    """Read regions as RGBA pictures, which is what OpenSlide gives, or on to arrays as we give."""
    with openslide.OpenSlide(path) as slide:
        scale = int(slide.level_downsamples[level])

        def read(y: int, x: int) -> object:
            image = slide.read_region((x * scale, y * scale), level, (side, side))
            return (np.asarray(image.convert("RGB")) if rgb else None), image

        return second_pass(read, places)


def by_us(path: Path, level: int, places: list[Place], side: int) -> float:
    with open_mrxs(path) as slide:
        plane = slide.planes[0]
        return second_pass(lambda y, x: slide.read_region(plane, level, y, x, side, side), places)


def second_pass(read: Callable[[int, int], object], places: list[Place]) -> float:
    """Return the seconds of the processor for all places, after they were read once.

    What was read is kept until the next is, as in most loops: given back at once, the system takes
    the memory, and OpenSlide loses a fifth.
    """
    for y, x in places:
        read(y, x)
    started = time.process_time()
    for y, x in places:
        latest = read(y, x)  # noqa: F841 - kept
    return time.process_time() - started


def by_codec(path: Path, level: int, places: list[Place], side: int) -> float:
    """Decode every image under the regions once."""
    from napari_focusfuse.slide import Region

    with open_mrxs(path) as slide:
        lists = slide._images.lists(slide._slots[0], level)
        found = [slide._places.tiles(level, Region(y, x, side, side)).image for y, x in places]
        chosen = lists[1:, np.isin(lists[0], np.unique(np.concatenate(found)))]
        payloads = [slide._index.bytes_at(*place) for place in chosen.T.tolist()]
    out = np.empty((*LAYOUT.tile, 3), np.uint8)
    started = time.process_time()
    for data in payloads:
        imagecodecs.jpeg8_decode(data, out=out)
    return time.process_time() - started


def fastest(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            best[name] = min(best[name], run())
    return best


def compare(path: Path, repeats: int) -> None:
    print("MP/s of one thread; in brackets times OpenSlide to the same array")
    print(
        f"{'level':>5} {'side':>5} {'regions':>9} {'OpenSlide: RGBA':>16} {'array':>6} {'ours':>13}"
        f" {'codec alone':>13}"
    )
    with open_mrxs(path) as slide:
        shapes = [level.shape for level in slide.levels]
    cases = [
        (0, 512, "in rows", rows, 81),
        (0, 2048, "in rows", rows, 9),
        (0, 512, "anywhere", anywhere, 40),
        (0, 2048, "anywhere", anywhere, 5),
        (1, 512, "in rows", rows, 16),
        (2, 512, "in rows", rows, 4),
        (3, 512, "in rows", rows, 1),
    ]
    for level, side, kind, choose, count in cases:
        places = choose(shapes[level], side, count)
        arguments = (path, level, places, side)
        best = fastest(
            {
                "picture": lambda a=arguments: by_openslide(*a, rgb=False),
                "array": lambda a=arguments: by_openslide(*a, rgb=True),
                "ours": lambda a=arguments: by_us(*a),
                "codec": lambda a=arguments: by_codec(*a),
            },
            repeats,
        )
        speed = {name: len(places) * side**2 / 1e6 / seconds for name, seconds in best.items()}
        ours, codec = (
            f"{speed[name]:.0f} ({speed[name] / speed['array']:.2f})" for name in ("ours", "codec")
        )
        print(
            f"{level:5} {side:5} {kind:>9} {speed['picture']:16.0f} {speed['array']:6.0f} "
            f"{ours:>13} {codec:>13}"
        )


def unhindered(work: Callable[[], object]) -> float:
    """Return the seconds a thread took, less those it waited for a processor that others had.

    What is left is running, and waiting for locks, the interpreter and the disk.  A thread that
    holds a lock may itself be kept from a processor, so a busy machine makes threads look worse.
    """
    started, waited = time.perf_counter(), queued()
    work()
    return time.perf_counter() - started - (queued() - waited)


def queued() -> float:
    """Return the seconds this thread was ready to run and did not (proc(5), schedstat)."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


@contextmanager
def reading(path: Path, side: int, count: int) -> Iterator[Callable[[], object]]:
    """Open the slide anew; each caller reads the next region until none is left."""
    with open_mrxs(path) as slide:
        places = iter(rows(slide.levels[0].shape, side, count))
        slide.read_region(slide.planes[0], 0, 0, 0, 8, 8)

        def read() -> None:
            for y, x in places:
                slide.read_region(slide.planes[0], 0, y, x, side, side)

        yield read


@contextmanager
def decoding(path: Path) -> Iterator[Callable[[], object]]:
    """Each caller decodes the next image of the slide until none is left, and does nothing else."""
    with open_mrxs(path) as slide:
        places = slide._images.lists(0, 0)[1:].T.tolist()
        payloads = iter([slide._index.bytes_at(*place) for place in places])

    def decode() -> None:
        out = np.empty((*LAYOUT.tile, 3), np.uint8)
        for data in payloads:
            imagecodecs.jpeg8_decode(data, out=out)

    yield decode


def gain(
    start: Callable[[], AbstractContextManager[Callable[[], object]]], two: Executor, repeats: int
) -> float:
    """Return how much faster work is done by two threads than by one."""

    def by(count: int) -> float:
        with start() as work:
            return max(two.map(unhindered, [work] * count))

    best = fastest({"one": partial(by, 1), "two": partial(by, 2)}, repeats)
    return best["one"] / best["two"]


def threads(path: Path, repeats: int) -> None:
    """Read an open slide by one thread and by two.

    Beside it libjpeg-turbo alone: what two processors of this machine, which may share a core, can
    give.
    """
    with ThreadPoolExecutor(2) as two:
        found = {"codec alone": gain(partial(decoding, path), two, repeats)}
        for side, count in ((512, 80), (1024, 20), (2048, 4)):
            found[f"{side} px"] = gain(partial(reading, path, side, count), two, repeats)
    print(
        "two threads, times one (waiting for a processor that others had taken off): "
        + ", ".join(f"{name} {times:.2f}" for name, times in found.items())
    )


def three_planes(path: Path, repeats: int) -> None:
    """Read a region of three planes by one call and by three."""
    with open_mrxs(path) as slide:
        places = rows(slide.levels[0].shape, 512, 24)

    def run(read: Callable[[MiraxSlide, Place], object]) -> float:
        with open_mrxs(path) as slide:
            slide.read_stack(slide.planes, 0, 0, 0, 8, 8)
            started = time.process_time()
            for place in places:
                read(slide, place)
            return time.process_time() - started

    best = fastest(
        {
            "stack": lambda: run(lambda s, p: s.read_stack(s.planes, 0, *p, 512, 512)),
            "each": lambda: run(
                lambda s, p: [s.read_region(plane, 0, *p, 512, 512) for plane in s.planes]
            ),
        },
        repeats,
    )
    pixels = 3 * len(places) * 512**2 / 1e6
    print(
        f"three planes of 512 px regions: read_stack {pixels / best['stack']:.1f} MP/s, "
        f"three reads {pixels / best['each']:.1f} MP/s"
    )


def large_index(folder: Path, images: Place = (1560, 544), slots: int = 12) -> Path:
    """Write a slide of one payload that every entry of every slot points to."""
    tiny = np.full((256, 344, 3), 200, np.uint8)
    names = [Slot("ExtFocusLevel", tiny), *focus_slots([tiny] * (slots - 1), -(slots // 2))]
    layout = Layout(tile=(256, 344), zooms=1, codec="JPEG")
    path = write_mrxs(folder / "large.mrxs", names, layout)
    ini = folder / "large" / "Slidedat.ini"
    text = ini.read_bytes().decode("utf-8-sig")
    text = text.replace("IMAGENUMBER_X = 1\r", f"IMAGENUMBER_X = {images[1]}\r")
    text = text.replace("IMAGENUMBER_Y = 1\r", f"IMAGENUMBER_Y = {images[0]}\r")
    text = text.replace("CameraImageDivisionsPerSide = 1", "CameraImageDivisionsPerSide = 8")
    ini.write_bytes(text.encode())
    index = folder / "large" / "Index.dat"
    body = bytearray(index.read_bytes())
    (table,) = struct.unpack_from("<i", body, 37)
    count = images[0] * images[1]
    page = np.dtype([("count", "<i4"), ("next", "<i4"), ("entries", "<i4", (128, 4))])
    entries = np.zeros((-(-count // 128), 128, 4), "<i4")
    entries.reshape(-1, 4)[:count, 0] = np.arange(count)
    with index.open("r+b") as file:
        for slot in range(slots):
            (head,) = struct.unpack_from("<i", body, table + 4 * 3 * slot)
            (first,) = struct.unpack_from("<i", body, head + 4)
            payload = struct.unpack_from("<3i", body, first + 12)
            file.seek(0, 2)
            start = file.tell()
            pages = np.zeros(len(entries), page)
            pages["count"] = np.minimum(128, count - 128 * np.arange(len(pages)))
            pages["next"] = start + page.itemsize * np.arange(1, len(pages) + 1)
            pages["next"][-1] = 0
            entries.reshape(-1, 4)[:, 1:] = payload
            pages["entries"] = entries
            file.write(pages.tobytes())
            file.seek(head + 4)
            file.write(struct.pack("<i", start))
    assert payload[0] >= FIRST_PAYLOAD
    return path


def opening(folder: Path, repeats: int) -> None:
    path = large_index(folder)
    size = (folder / "large" / "Index.dat").stat().st_size

    def opened() -> float:
        started = time.perf_counter()
        open_mrxs(path).close()
        return time.perf_counter() - started

    def first_region() -> float:
        with open_mrxs(path) as slide:
            started = time.perf_counter()
            slide.read_region(slide.planes[5], 0, 5000, 5000, 512, 512)
            return time.perf_counter() - started

    with open_mrxs(path) as slide:
        about = f"{len(slide.planes)} planes and extended focus, {size >> 20} MB of index"
    best = fastest({"open": opened, "region": first_region}, repeats)
    print(
        f"{about}: opened in {1000 * best['open']:.0f} ms, the first region of a plane in "
        f"{1000 * best['region']:.0f} ms"
    )


def probing(folder: Path, repeats: int) -> None:
    """Try a file in a child, as is done once for each that a C library opens."""
    image = scene(1, 1024)[None]
    files = {
        "openslide": write_aperio(folder / "one.svs", image, [0.0]),
        "czi": write_czi(folder / "one.czi", image),
    }

    def tried(library: str) -> float:
        files[library].touch()  # another file, of which nothing is remembered
        started = time.perf_counter()
        with probe.probing(True):
            assert probe.probe(files[library], library) is not None
        return time.perf_counter() - started

    best = fastest({library: partial(tried, library) for library in files}, repeats)
    print(
        "the trial of a file in a child: "
        + ", ".join(f"{library} {1000 * seconds:.0f} ms" for library, seconds in best.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=int, default=6400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = write_mrxs(folder / "one.mrxs", focus_slots([scene(0, options.side)]), LAYOUT)
        compare(single, options.repeats)
        threads(single, options.repeats)
        layers = [scene(seed, options.side // 2) for seed in range(3)]
        stack = write_mrxs(folder / "three.mrxs", focus_slots(layers, -1), LAYOUT)
        three_planes(stack, options.repeats)
        opening(folder, options.repeats)
        probing(folder, options.repeats)


if __name__ == "__main__":
    main()
