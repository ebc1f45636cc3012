"""Pyramids and spacings as they come: odd sides, large jumps, sizes missing or absurd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_focusfuse.readers import open_slide
from slide_files import Stack, halved, make_stack, pyramid, write_aperio, write_ndpi, write_ome

ODD = make_stack(3, 255, 319)


def write_levels(path: Path, images: list[Stack]) -> Path:
    """Write an OME-TIFF with just these levels."""
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(images[0], subifds=len(images) - 1, metadata={"axes": "ZYXS"}, **options)
        for image in images[1:]:
            writer.write(image, subfiletype=1, **options)
    return path


def rounded_up(stack: Stack) -> Stack:
    """Return half the size, the last row and column standing for themselves."""
    padded = np.pad(
        stack, ((0, 0), (0, stack.shape[1] % 2), (0, stack.shape[2] % 2), (0, 0)), "edge"
    )
    return halved(padded)


LEVELS: dict[str, tuple[list[Stack], list[float]]] = {
    "odd sides, rounded down": (pyramid(ODD, 4), [1, 2, 4, 8]),
    "odd sides, rounded up": ([ODD, rounded_up(ODD), rounded_up(rounded_up(ODD))], [1, 2, 4]),
    "jumps of four": (pyramid(ODD, 3, step=4), [1, 4, 16]),
    "a jump of two, then of four": (
        [ODD, halved(ODD), np.ascontiguousarray(ODD[:, 4:252:8, 4:316:8])],
        [1, 2, 8],
    ),
    "a third": ([ODD, np.ascontiguousarray(ODD[:, 1::3, 1::3])], [1, 3]),
    "a level of its own size again": ([ODD, 255 - ODD, halved(ODD)], [1, 2]),
    "a level of one pixel": ([ODD, np.ascontiguousarray(ODD[:, :1, :1])], [1, 256]),
}  # fmt: skip


@pytest.mark.parametrize(("images", "steps"), LEVELS.values(), ids=LEVELS)
def test_levels_of_an_ome_tiff(images, steps, tmp_path, open_files):
    with open_slide(write_levels(tmp_path / "s.ome.tif", images)) as slide:
        assert [level.downsample[0] for level in slide.levels] == pytest.approx(steps)
        by_shape = {image.shape[1:3]: image for image in reversed(images)}
        for number, level in enumerate(slide.levels):
            wanted = by_shape[level.shape]
            read = slide.read_stack(slide.planes, number, 0, 0, *level.shape)
            assert (read == wanted).all()
    assert open_files(tmp_path) == []


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda path, stack: write_ndpi(path, stack, [2700, 0, -2700], 2, step=4), 2.5),
        (lambda path, stack: write_aperio(path, stack, [2.7, 0.0, -2.7], 2, step=4), 0.0),
    ],
    ids=["ndpi", "aperio"],
)
def test_scanner_files_of_odd_size_with_a_jump_of_four(
    write: Callable[[Path, Stack], Path], error, tmp_path
):
    with open_slide(write(tmp_path / "s", ODD)) as slide:
        assert [level.shape for level in slide.levels] == [(255, 319), (63, 79)]
        assert slide.levels[1].downsample == (4.0, 4.0)
        assert [plane.z_um for plane in slide.planes] == pytest.approx([-2.7, 0, 2.7])
        for level, image in enumerate(pyramid(ODD[::-1], 2, step=4)):
            read = slide.read_stack(slide.planes, level, 0, 0, *image.shape[1:3])
            assert np.abs(read.astype(int) - image).mean((1, 2, 3)).max() <= error


@pytest.mark.parametrize(
    ("offsets", "heights", "order"),
    [
        ([None, None, None], [None, None, None], (0, 1, 2)),
        ([1.5, None, -1.5], [None, None, None], (0, 1, 2)),
        ([0.0, 0.0, 1.0], [None, None, None], (0, 1, 2)),
        ([3.0, 1.0, 2.0], [1.0, 2.0, 3.0], (1, 2, 0)),
    ],
)
def test_heights_of_an_aperio_stack(offsets, heights, order, tmp_path, stack):
    with open_slide(write_aperio(tmp_path / "s.svs", stack, offsets)) as slide:
        assert [plane.z_um for plane in slide.planes] == heights
        for level, image in enumerate(pyramid(stack[list(order)], 2)):
            read = slide.read_stack(slide.planes, level, 0, 0, *image.shape[1:3])
            assert (read == image).all()


@pytest.mark.parametrize(
    ("scale", "mpp"),
    [
        ("", None),
        ("|MPP = 0", None),
        ("|MPP = -0.25", None),
        ("|MPP = nan", None),
        ("|MPP = inf", None),
        ("|MPP = about 0.25", None),
        ("|MPP = 0,25", (0.25, 0.25)),
        ("|MPP = 0.1725", (0.1725, 0.1725)),
    ],
)
def test_pixel_size_of_an_aperio_stack(scale, mpp, tmp_path):
    small = make_stack(3, 64, 64)
    with open_slide(write_aperio(tmp_path / "s.svs", small, [0, 1, 2], 1, scale=scale)) as slide:
        assert slide.mpp == (mpp if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize(
    "sizes",
    [
        {"PhysicalSizeZ": -1.0},
        {"PhysicalSizeZ": 0.0},
        {"PhysicalSizeX": 0.0, "PhysicalSizeY": 0.25},
        {"PhysicalSizeX": -0.25, "PhysicalSizeY": -0.25},
    ],
)
def test_absurd_sizes_of_an_ome_tiff_count_as_unknown(sizes, tmp_path):
    with open_slide(write_ome(tmp_path / "s.ome.tif", make_stack(3, 64, 64), **sizes)) as slide:
        assert slide.mpp is None
        assert [plane.z_um for plane in slide.planes] == [None] * 3
        assert slide.zero == 1
