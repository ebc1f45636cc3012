from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import PlaneError, SlideError, UnsupportedSlideError
from slide_files import (
    Stack,
    halved,
    make_stack,
    pyramid,
    write_aperio,
    write_ndpi,
    write_ome,
    write_pages,
)

SAMPLE = Path(__file__).parents[3] / "src" / "napari_focusfuse" / "samples" / "algae.ome.tif"


@dataclass(frozen=True)
class Case:
    """One kind of file and what must be read from it."""

    id: str
    write: Callable[[Path, Stack], Path]
    heights: tuple[float, ...] | None = None
    zero: int = 1
    levels: int = 1
    mpp: tuple[float, float] | None = None
    objective: float | None = None
    error: float = 0.0
    """Largest mean difference allowed, in grey levels; JPEG is not exact."""
    order: tuple[int, ...] = (0, 1, 2)
    """The plane of the stack as written that must be read as plane 0, 1, 2."""
    associated: tuple[str, ...] = field(default=())


def ome(name: str = "s.ome.tif", **options: Any) -> Callable[[Path, Stack], Path]:
    return lambda folder, stack: write_ome(folder / name, stack, **options)


def pages(**options: Any) -> Callable[[Path, Stack], Path]:
    return lambda folder, stack: write_pages(folder / "s.tif", stack, **options)


def microns(unit: str, factor: float) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for axis, size in {"X": 0.25, "Y": 0.5, "Z": 2.7}.items():
        facts |= {f"PhysicalSize{axis}": size * factor, f"PhysicalSize{axis}Unit": unit}
    return facts


SCALE = {"heights": (0.0, 2.7, 5.4), "mpp": (0.5, 0.25)}
CASES = [
    Case("ome, scale unknown", ome(), levels=3),
    Case("ome, um", ome(**microns("µm", 1)), levels=3, **SCALE),
    Case("ome, nm", ome(**microns("nm", 1000)), levels=3, **SCALE),
    Case("ome, mm", ome(**microns("mm", 0.001)), levels=3, **SCALE),
    Case("ome, pixels as unit", ome(**microns("pixel", 1)), levels=3),
    Case("ome, no unit", ome(PhysicalSizeX=0.25, PhysicalSizeY=0.5), levels=3, mpp=(0.5, 0.25)),
    Case("ome, x alone", ome(PhysicalSizeX=0.25), levels=3),
    Case("ome, spacing zero", ome(PhysicalSizeZ=0.0), levels=3),
    Case("ome, jump of four", ome(levels=2, step=4), levels=2),
    Case("ome, strips", ome(tile=None), levels=3),
    Case("ome, uncompressed", ome(compression=None, tile=None, levels=1)),
    Case("ome, uncompressed tiles", ome(compression=None, levels=2), levels=2),
    Case("ome, jpeg", ome(compression="jpeg"), levels=3, error=2.5),
    Case("ome, webp", ome(compression="webp", levels=1), error=3.0),
    Case("ome, jpeg 2000", ome(compression="jpeg2000", levels=1), error=3.0),
    Case("ome, zstd", ome(compression="zstd"), levels=3),
    Case("ome, lzw, named otherwise", ome("s.slide", compression="lzw"), levels=3),
    Case(
        "ome, stage heights downwards",
        ome(
            Plane={"PositionZ": [1007.4, 1004.7, 1002.0], "PositionZUnit": ["µm"] * 3},
            PhysicalSizeZ=2.7,
        ),
        heights=(1002.0, 1004.7, 1007.4),
        levels=3,
        order=(2, 1, 0),
    ),
    Case("pages, tiled", pages(tile=(64, 64), compression="deflate")),
    Case("pages, strips", pages(compression="deflate", rowsperstrip=32)),
    Case("pages, one strip", pages()),
    Case("pages, screen resolution", pages(resolution=(72, 72), resolutionunit="INCH")),
    Case("pages, no unit", pages(resolution=(4, 4), resolutionunit="NONE")),
    Case(
        "pages, microscope resolution",
        pages(resolution=(40000, 20000), resolutionunit="CENTIMETER"),
        mpp=(0.5, 0.25),
    ),
    Case(
        "shaped by tifffile",
        lambda folder, stack: (
            tifffile.imwrite(folder / "s.tif", stack, photometric="rgb"),
            folder / "s.tif",
        )[1],
    ),
    Case(
        "big endian BigTIFF",
        lambda folder, stack: (
            tifffile.imwrite(
                folder / "s.tif",
                stack,
                photometric="rgb",
                bigtiff=True,
                byteorder=">",
                tile=(64, 64),
            ),
            folder / "s.tif",
        )[1],
    ),
    Case(
        "planar",
        lambda folder, stack: (
            tifffile.imwrite(
                folder / "s.tif",
                np.ascontiguousarray(stack.transpose(0, 3, 1, 2)),
                photometric="rgb",
                planarconfig="separate",
                tile=(64, 64),
            ),
            folder / "s.tif",
        )[1],
    ),
    Case(
        "ndpi",
        lambda folder, stack: write_ndpi(folder / "s.ndpi", stack, [0, -2700, 2700]),
        heights=(-2.7, 0.0, 2.7),
        levels=2,
        mpp=(0.25, 0.25),
        objective=40.0,
        error=2.0,
        order=(1, 0, 2),
        associated=("macro",),
    ),
    Case(
        "ndpi by another name",
        lambda folder, stack: write_ndpi(folder / "s.tif", stack, [5000, 2500, 0]),
        heights=(0.0, 2.5, 5.0),
        levels=2,
        mpp=(0.25, 0.25),
        objective=40.0,
        error=2.0,
        order=(2, 1, 0),
        associated=("macro",),
    ),
    Case(
        "ndpi without heights",
        lambda folder, stack: write_ndpi(folder / "s.ndpi", stack, [None, None, None]),
        levels=2,
        mpp=(0.25, 0.25),
        objective=40.0,
        error=2.0,
        associated=("macro",),
    ),
    Case(
        "aperio",
        lambda folder, stack: write_aperio(folder / "s.svs", stack, [0.0, 1.5, -1.5]),
        heights=(-1.5, 0.0, 1.5),
        levels=2,
        mpp=(0.25, 0.25),
        objective=40.0,
        order=(2, 0, 1),
        associated=("thumbnail", "label", "macro"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_stack_reads_as_it_was_written(case, tmp_path, stack, open_files):
    path = case.write(tmp_path, stack)
    step = 4 if case.id.endswith("jump of four") else 2
    with open_slide(path) as slide:
        assert (slide.format, slide.zero, slide.extended) == ("tiff", case.zero, None)
        assert (slide.mpp is None) == (case.mpp is None)
        assert case.mpp is None or slide.mpp == pytest.approx(case.mpp)
        assert slide.objective == case.objective
        found = [plane.z_um for plane in slide.planes]
        assert found == ([None] * 3 if case.heights is None else pytest.approx(case.heights))
        assert len({plane.name for plane in slide.planes}) == 3
        assert tuple(slide.associated) == case.associated
        assert (slide.not_shown, slide.warnings) == ([], [])
        assert len(slide.levels) == case.levels
        images = pyramid(stack[list(case.order)], case.levels, step)
        for level, image in enumerate(images):
            assert slide.levels[level].shape == image.shape[1:3]
            assert slide.levels[level].downsample == (step**level, step**level)
            read = slide.read_stack(slide.planes, level, 0, 0, *image.shape[1:3])
            assert np.abs(read.astype(int) - image).mean((1, 2, 3)).max() <= case.error
            part = slide.read_region(slide.planes[2], level, 13, 7, 40, 31)
            assert (part == read[2, 13:53, 7:38]).all()
    assert open_files(tmp_path) == []


@dataclass
class Reads:
    """Places in the file that the real library read pixels from."""

    places: list[int] = field(default_factory=list)


@pytest.fixture
def reads(monkeypatch):
    """Note every read of a tile by tifffile's own store."""
    from tifffile.tifffile import FileCache

    noted, read = Reads(), FileCache.read

    def noting(self: Any, handle: Any, offset: int, count: int, /, **more: Any) -> bytes:
        noted.places.append(offset)
        return read(self, handle, offset, count, **more)

    monkeypatch.setattr(FileCache, "read", noting)
    return noted


def test_a_region_of_one_plane_reads_its_tiles_and_no_other(tmp_path, reads):
    stack = make_stack(3, 1300, 1300)
    path = write_ome(tmp_path / "s.ome.tif", stack, levels=2, tile=256)
    with tifffile.TiffFile(path) as file:
        tiles = np.array(file.series[0].pages[2].dataoffsets).reshape(6, 6)
    with open_slide(path) as slide:
        assert reads.places == []  # opening decodes nothing
        read = slide.read_region(slide.planes[2], 0, 512, 256, 512, 512)
        assert (read == stack[2, 512:1024, 256:768]).all()
        assert sorted(reads.places) == sorted(tiles[2:4, 1:3].ravel().tolist())


def test_a_region_of_an_uncompressed_plane_reads_its_rows(tmp_path, stack, monkeypatch):
    path = write_pages(tmp_path / "s.tif", stack)
    with open_slide(path) as slide:
        from tifffile.tifffile import FileHandle

        sizes: list[int] = []
        read = FileHandle.read

        def noting(self: Any, size: int = -1, /) -> bytes:
            sizes.append(size)
            return read(self, size)

        monkeypatch.setattr(FileHandle, "read", noting)
        part = slide.read_region(slide.planes[1], 0, 100, 50, 20, 30)
        assert (part == stack[1, 100:120, 50:80]).all()
        assert sizes == [20 * 320 * 3]


def test_a_plane_compressed_whole_is_decoded_once(tmp_path, reads):
    stack = make_stack(2, 1100, 1000)
    path = write_pages(tmp_path / "s.tif", stack, compression="deflate", rowsperstrip=1100)
    with open_slide(path) as slide:
        for y in (0, 500, 900):
            read = slide.read_region(slide.planes[1], 0, y, 7, 100, 100)
            assert (read == stack[1, y : y + 100, 7:107]).all()
    assert len(reads.places) == 1


@pytest.mark.parametrize("fused_first", [False, True])
def test_an_extended_focus_is_a_plane_beside_the_stack(tmp_path, stack, fused_first):
    path = tmp_path / "s.ome.tif"
    fused = stack.max(axis=0)
    images = [(stack, {"axes": "ZYXS"}), (fused, {"axes": "YXS", "Name": "Extended focus"})]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image, metadata in images[:: -1 if fused_first else 1]:
            writer.write(image, photometric="rgb", metadata=metadata, tile=(64, 64))
    with open_slide(path) as slide:
        assert len(slide.planes) == 3
        assert slide.not_shown == []
        assert slide.extended is not None
        assert (slide.read_region(slide.extended, 0, 0, 0, 256, 320) == fused).all()
        assert (slide.read_stack(slide.planes, 0, 0, 0, 256, 320) == stack).all()


def test_threads_read_at_once(tmp_path, stack):
    path = write_ome(tmp_path / "s.ome.tif", stack, levels=1)
    faults: list[str] = []
    with open_slide(path) as slide:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                z, y, x = rng.integers(0, 3), rng.integers(0, 200), rng.integers(0, 250)
                read = slide.read_region(slide.planes[z], 0, int(y), int(x), 50, 60)
                if (read != stack[z, y : y + 50, x : x + 60]).any():
                    faults.append(f"{z} {y} {x}")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


def test_layer_zero_can_be_chosen(tmp_path, stack, open_files):
    path = write_ome(tmp_path / "s.ome.tif", stack)
    with open_slide(path, zero=0) as slide:
        assert slide.zero == 0
    with pytest.raises(PlaneError, match="must be 0 to 2, not 7"):
        open_slide(path, zero=7)
    assert open_files(tmp_path) == []


def test_a_file_of_one_plane_is_a_slide(tmp_path, stack):
    path = write_ome(tmp_path / "one.ome.tif", stack[1], axes="YXS", PhysicalSizeX=0.3,
                     PhysicalSizeY=0.3)  # fmt: skip
    with open_slide(path) as slide:
        assert (len(slide.planes), slide.zero, slide.mpp) == (1, 0, (0.3, 0.3))
        assert (slide.read_region(slide.planes[0], 1, 0, 0, 128, 160) == halved(stack[1])).all()


def test_transparency_shows_the_background(tmp_path, stack):
    alpha = np.full((*stack.shape[:3], 1), 255, np.uint8)
    alpha[:, :128] = 0
    path = write_ome(tmp_path / "s.ome.tif", np.concatenate([stack, alpha], -1), levels=1)
    with open_slide(path) as slide:
        read = slide.read_region(slide.planes[0], 0, 0, 0, 256, 320)
        assert (read[:128] == 255).all()
        assert (read[128:] == stack[0, 128:]).all()


def test_a_tile_that_is_not_stored_is_background(tmp_path, stack):
    path = tmp_path / "sparse.tif"
    tifffile.imwrite(path, stack, photometric="rgb", tile=(64, 64), compression="deflate")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for code in (324, 325):
            tag = file.series[0].pages[0].tags[code]
            data[tag.valueoffset : tag.valueoffset + 4] = bytes(4)
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 64, 64) == 255).all()
        assert (slide.read_region(slide.planes[0], 0, 0, 64, 64, 64) == stack[0, :64, 64:128]).all()


def test_further_images_and_time_points_are_told(tmp_path, stack):
    path = tmp_path / "s.ome.tif"
    times = np.stack([stack, stack, 255 - stack])
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(times, photometric="rgb", metadata={"axes": "TZYXS", "Name": "main"})
        writer.write(stack[:, :64, :64], photometric="rgb", metadata={"axes": "ZYXS", "Name": "b"})
    with open_slide(path) as slide:
        assert slide.not_shown == ["2 of 3 time points", "image 'b' of 64 x 64 pixels"]
        assert (slide.read_stack(slide.planes, 0, 0, 0, 256, 320) == stack).all()


def test_planes_without_a_page_of_their_own_are_told(tmp_path, stack):
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="rgb", truncate=True)
    with open_slide(tmp_path / "s.tif") as slide:
        assert len(slide.planes) == 1
        assert slide.not_shown == ["2 images without a page of their own"]


def test_a_level_without_all_planes_is_left_out(tmp_path, stack):
    path = tmp_path / "s.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, photometric="rgb", metadata=None, tile=(64, 64))
        for plane in halved(stack)[:2]:
            writer.write(plane, photometric="rgb", metadata=None, tile=(64, 64), subfiletype=1)
    with open_slide(path) as slide:
        assert len(slide.planes) == 3
        assert [level.shape for level in slide.levels] == [(256, 320)]


def test_planes_that_claim_one_height_are_told(tmp_path, stack):
    path = write_ndpi(tmp_path / "s.ndpi", stack, [0, 0, 2700])
    with open_slide(path) as slide:
        assert [plane.z_um for plane in slide.planes] == [None] * 3
        assert any("same height" in warning for warning in slide.warnings)


def test_associated_pictures_are_read_on_access(tmp_path, stack):
    path = write_aperio(tmp_path / "s.svs", stack, [-1, 0, 1])
    with open_slide(path) as slide:
        assert (slide.associated["label"] == 7).all()
        assert slide.associated["macro"].shape == (22, 26, 3)
        assert "slide" not in slide.associated


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.zeros((3, 64, 64), np.uint8), {"photometric": "minisblack"}),
        (np.zeros((3, 64, 64), np.uint16), {"photometric": "minisblack"}),
        (np.zeros((3, 64, 64, 3), np.uint16), {"photometric": "rgb"}),
        (np.zeros((3, 64, 64, 3), np.float32), {"photometric": "rgb"}),
        (np.zeros((3, 64, 64, 4), np.uint8), {"photometric": "separated"}),
        (np.zeros((64, 64, 3), np.uint8), {"photometric": "rgb", "compression": "jpegxl"}),
    ],
)
def test_what_is_not_8_bit_rgb_is_refused_in_one_sentence(image, options, tmp_path, open_files):
    path = tmp_path / "other.tif"
    tifffile.imwrite(path, image, **options)
    with pytest.raises(UnsupportedSlideError, match=r"^other\.tif holds .*convert it to 8-bit RGB"):
        open_slide(path)
    assert open_files(tmp_path) == []


def test_a_closed_slide_says_so(tmp_path, stack):
    slide = open_slide(write_ome(tmp_path / "s.ome.tif", stack))
    slide.close()
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read_region(slide.planes[0], 0, 0, 0, 5, 5)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_planes_that_the_file_lacks_are_told(tmp_path, stack, compression, open_files):
    path = write_ome(tmp_path / "s.ome.tif", stack, levels=1, compression=compression)
    path.write_bytes(path.read_bytes().replace(b'SizeZ="3"', b'SizeZ="9"'))
    with pytest.raises(SlideError, match="lacks focus layers that it names"):
        open_slide(path)
    assert open_files(tmp_path) == []


def test_the_shipped_sample_is_five_planes_of_unknown_scale():
    with open_slide(SAMPLE) as slide:
        assert len(slide.planes) == 5
        assert (slide.mpp, slide.z_step_um, slide.zero) == (None, None, 2)
        assert [plane.z_um for plane in slide.planes] == [None] * 5
        assert [level.shape for level in slide.levels] == [(1536, 1536), (768, 768), (384, 384)]
    assert SAMPLE.stat().st_size <= 4_000_000
    assert "MIT License" in SAMPLE.with_name("algae.NOTICE.txt").read_text()
