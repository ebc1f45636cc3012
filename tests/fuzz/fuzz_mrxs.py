"""Fuzz the parsers of MIRAX' ``Slidedat.ini`` and ``Index.dat`` with atheris (libFuzzer).

Atheris is no dependency of any extra: ``pip install atheris``.  From the top of the repository::

    python tests/fuzz/fuzz_mrxs.py CORPUS -max_total_time=600 -timeout=30 -max_len=400 \\
        -len_control=0

The first bytes of an input choose a slide that the tests' writer made and which of its two files
is changed; the rest are patches, so that most inputs pass the checks in front and reach what lies
behind.  An input that starts with 255 is the file itself.  A finding is a crash, more than 2 s,
an array or buffer of more than 256 MB, or any exception but ours.  All but crashes are printed
once as ``FINDING`` and hex, and fuzzing goes on; ``python tests/fuzz/fuzz_mrxs.py --hex HEX`` runs
one again without atheris.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from mrxs_files import Layout, Slot, focus_slots, write_mrxs

FUZZED = ("mrxs_ini", "mrxs_structure", "mrxs_index", "mrxs_records", "mrxs_places", "mrxs_stack")
MOST_BYTES = 256 << 20
MOST_SECONDS = 2.0
"""Of the processor: a busy machine finds nothing.  libFuzzer ends what waits, or loops in C."""
FILES = ("Slidedat.ini", "Index.dat")
WHOLE = 255
EDGES = (0, 1, -1, 2, 7, 16, 17, 255, 2**15, 2**16, 2**18, 2**20, 2**23, 2**31 - 1, -(2**31))
WORDS = ("", "-1", "0", "1", "16", "4096", "524288", "2147483648", "9" * 20, "1,5", "1e300", "nan")


class Slow(BaseException):
    """Not an Exception, so that no parser can catch it."""


def make_slides(folder: Path) -> list[Path]:
    """Write small slides that between them have every structure the parsers know."""
    rng = np.random.default_rng(0)
    scenes = list(rng.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8))
    slots = focus_slots(scenes[:2], fused=scenes[2])
    short = [Slot("ExtFocusLevel", scenes[0]), Slot("ZStackLevel_(0)", scenes[1], last_zoom=0)]
    tile = (16, 24)
    layouts = [
        (slots, Layout(tile=tile, mask=True, page=2, scattered=True, images_per_file=9)),
        (
            slots,
            Layout(tile=tile, divisions=2, overlap=(4, 4), positions="vimslide", rule="adjacent"),
        ),
        (short, Layout(tile=tile, positions="zlib", stored_filters=(1,), first_exponent=1)),
        (slots[1:2], Layout(tile=tile, associated={"macro": scenes[0]}, rule="neither", zooms=2)),
    ]
    return [
        write_mrxs(folder / f"s{number}.mrxs", which, layout)
        for number, (which, layout) in enumerate(layouts)
    ]


class Target:
    """Slides, the input that damages one of them, and the limits it is read under.

    Parameters
    ----------
    folder
        An empty folder, where the slides are written.
    """

    def __init__(self, folder: Path) -> None:
        self.slides = make_slides(folder)
        self._sound = {
            (slide, name): (slide.with_suffix("") / name).read_bytes()
            for slide in self.slides
            for name in FILES
        }
        signal.signal(signal.SIGPROF, _too_slow)

    def __call__(self, data: bytes) -> None:
        """Run one input; an exception is a finding."""
        if len(data) < 3:
            return
        slide = self.slides[data[1] % len(self.slides)]
        name = FILES[data[2] % 2]
        sound = self._sound[slide, name]
        changed = data[3:] if data[0] == WHOLE else damage(sound, data[3:], name)
        file = slide.with_suffix("") / name
        file.write_bytes(changed)
        try:
            limited(slide)
        finally:
            file.write_bytes(sound)


def damage(sound: bytes, patches: bytes, name: str) -> bytes:
    """Apply patches of 5 bytes (kind, place, value) to a sound file."""
    out = bytearray(sound)
    for at in range(0, len(patches) - 4, 5):
        kind, place, value = struct.unpack_from("<BHh", patches, at)
        if name == "Slidedat.ini":
            _edit_line(out, kind, place, value)
        else:
            _edit_integer(out, kind, place, value)
    return bytes(out)


def _edit_integer(out: bytearray, kind: int, place: int, value: int) -> None:
    """Change an integer of the index, or cut it; integers lie at odd places after the header."""
    if len(out) < 49:
        return
    at = 37 + 4 * (place % ((len(out) - 41) // 4))
    old = struct.unpack_from("<i", out, at)[0]
    new = (
        value,
        old + value % 64 - 32,
        EDGES[value % len(EDGES)],
        37 + 4 * (value % (len(out) // 4)),  # a place in this file: pages that join or loop
        (value << 16) | (old & 0xFFFF),
    )
    match kind % 8:
        case 0 | 1 | 2 | 3 | 4 as which:
            struct.pack_into("<I", out, at, new[which] & 0xFFFFFFFF)
        case 5:
            del out[at + value % 4 :]
        case 6:
            out[at % len(out)] = value & 0xFF
        case _:
            out += bytes(out[at : at + 8 + value % 256])


def _edit_line(out: bytearray, kind: int, place: int, value: int) -> None:
    """Change, repeat, swap or drop a line of the ini file, or a byte of it."""
    lines = bytes(out).split(b"\r\n")
    at = place % len(lines)
    key, equals, old = lines[at].partition(b" = ")
    match kind % 8:
        case 0:
            lines[at] = key + equals + str(value).encode()
        case 1:
            lines[at] = key + equals + WORDS[value % len(WORDS)].encode()
        case 2:
            lines[at] = key + equals + lines[value % len(lines)].partition(b" = ")[2]
        case 3:
            del lines[at]
        case 4:
            other = value % len(lines)
            lines[at], lines[other] = lines[other], lines[at]
        case 5:
            digits = old.isdigit() and len(old) < 12
            lines[at] = key + equals + (str(int(old) + value % 9 - 4).encode() if digits else b"")
        case 6:
            lines[at] = lines[at][: value % 40] + bytes([value & 0xFF]) + lines[at][value % 40 :]
        case _:
            lines = lines[: at + 1]
    out[:] = b"\r\n".join(lines)


def limited(slide: Path) -> None:
    """Read a slide; whatever is no error of ours, too slow or too large is raised."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        read(slide)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)


def read(path: Path) -> None:
    """Ask the parsers for all they know; no picture is decoded."""
    from napari_focusfuse.readers.mrxs import open_mrxs
    from napari_focusfuse.slide import FocusFuseError, Region

    try:
        with open_mrxs(path) as slide:
            slide.structure()
            assert slide.bounds.height >= 0
            sorted(slide.associated)
            for plane in slide.planes[:4]:
                for level, shape in enumerate(slide.levels):
                    height, width = (min(side, 64) for side in shape.shape)
                    slide.coverage(plane, level, Region(0, 0, height, width))
    except FocusFuseError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        text = str(error)
        assert text, "the error says nothing"
        assert "\n" not in text, f"more than one line: {text!r}"


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise Slow(f"more than {MOST_SECONDS:g} s")


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield a patch of each kind for every slide and file, by its name, to start from."""
    for slide, file, kind in np.ndindex(4, len(FILES), 8):
        patch = struct.pack("<BHh", kind, 10 + 7 * kind, 3)
        yield f"{slide}-{file}-{kind}", bytes([0, slide, file]) + patch


def main() -> None:
    """Run one input given as hex, or fuzz."""
    os.environ["FOCUSFUSE_PROBE"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:2] == ["--hex"]:
            Target(Path(folder))(bytes.fromhex(sys.argv[2]))
            return
        import atheris

        with atheris.instrument_imports(
            include=[f"napari_focusfuse.readers.{name}" for name in FUZZED]
        ):
            import napari_focusfuse.readers.mrxs  # noqa: F401
        target = Target(Path(folder))
        if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
            corpus = Path(sys.argv[1])
            corpus.mkdir(parents=True, exist_ok=True)
            for name, data in seeds():
                (corpus / name).write_bytes(data)

        noted: set[tuple[str, str]] = set()

        def one_input(data: bytes) -> None:
            try:
                target(data)
            except BaseException as error:  # noqa: BLE001 - told once each, and on it goes
                where = traceback.extract_tb(error.__traceback__)[-1]
                finding = type(error).__name__, f"{Path(where.filename).name}:{where.lineno}"
                if finding not in noted:
                    noted.add(finding)
                    sys.stderr.write(f"FINDING {' '.join(finding)} {error}: {data.hex()}\n")

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
