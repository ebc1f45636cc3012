"""Pyramids from tiles that were encoded elsewhere."""

from __future__ import annotations

import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from PIL import ImageCms

from napari_focusfuse.dyadic import DyadicSlide
from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from napari_focusfuse.readers.openslide import open_openslide
from napari_focusfuse.writer import (
    COMPRESSIONS,
    OutputError,
    OutputFormatError,
    PyramidSpec,
    encode_tile,
    write_image,
    write_pyramid,
)
from textured_slide import texture

MPP = (0.25, 0.243)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded_by_threads(image: np.ndarray[Any, Any], spec: PyramidSpec) -> dict[int, list[bytes]]:
    """Return the tiles of each level, encoded from the last to the first by four threads."""
    tiles = {}
    with ThreadPoolExecutor(4) as pool:
        for level in range(len(spec.levels)):
            parts = list(spec.regions(level))
            jobs = [
                pool.submit(encode_tile, image[p.y : p.stop_y, p.x : p.stop_x], spec)
                for p in reversed(parts)
            ]
            tiles[level] = [job.result() for job in reversed(jobs)]
            image = halve(image)
    return tiles


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tiles_encoded_anywhere_make_the_file_that_the_image_makes(compression, tmp_path):
    image = texture(1203, 1051)
    spec = PyramidSpec(1203, 1051, compression=compression)
    tiles = encoded_by_threads(image, spec)
    about = {"method": "argmax"}
    paths = [tmp_path / folder / "a.ome.tif" for folder in ("whole", "tiles")]
    for path in paths:
        path.parent.mkdir()
    write_image(paths[0], image, mpp=MPP, provenance=about, compression=compression, icc=PROFILE)
    write_pyramid(
        paths[1],
        spec,
        lambda level: iter(tiles[level]),
        mpp=MPP,
        provenance=about,
        name="a",
        icc=PROFILE,
    )
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with openslide.OpenSlide(paths[1]) as slide:
        assert slide.color_profile.tobytes() == PROFILE
    with tifffile.TiffFile(paths[1]) as file:
        assert file.pages.first.iccprofile == PROFILE
    with open_slide(paths[1]) as slide:
        assert slide.icc_profile == PROFILE
        assert DyadicSlide(slide).icc_profile == PROFILE
    with open_openslide(paths[1]) as slide:
        assert slide.icc_profile == PROFILE


def test_levels_are_halved_until_one_tile_holds_the_last():
    spec = PyramidSpec(1203, 1051)
    assert spec.levels == ((1203, 1051), (601, 525), (300, 262))
    assert [spec.grid(level) for level in range(3)] == [(3, 3), (2, 2), (1, 1)]
    last = list(spec.regions(1))[-1]
    assert (last.y, last.x, last.height, last.width) == (512, 512, 89, 13)
    assert PyramidSpec(1, 5000).levels == ((1, 5000),)


@pytest.mark.parametrize("compression", ["zstd", "deflate"])
def test_maps_of_floats_are_kept_bit_by_bit(compression, tmp_path):
    depth = np.random.default_rng(1).normal(0, 3, (700, 600)).astype(np.float32)
    path = tmp_path / "depth.ome.tif"
    write_image(path, depth, mpp=MPP, provenance={}, compression=compression)
    with tifffile.TiffFile(path) as file:
        assert 'Type="float"' in file.ome_metadata
        first, second = (level.asarray() for level in file.series[0].levels)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, depth)
    np.testing.assert_array_equal(second, halve(depth))
    quarter = depth.astype(float).reshape(350, 2, 300, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(second, quarter, atol=1e-5)


def test_memory_does_not_grow_with_the_pixels(tmp_path):
    spec = PyramidSpec(40_000, 40_000)
    tile = encode_tile(np.full((512, 512, 3), 240, np.uint8), spec)
    count = [math.prod(spec.grid(level)) for level in range(len(spec.levels))]
    path = tmp_path / "large.ome.tif"
    tracemalloc.start()
    try:
        write_pyramid(
            path,
            spec,
            lambda level: (tile for _ in range(count[level])),
            mpp=None,
            provenance={},
            name="large",
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20, peak
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == tuple((40_000 >> level,) * 2 for level in range(8))
        assert slide.read_region((39_999, 39_999), 0, (1, 1)).getpixel((0, 0))[:3] == (240,) * 3


def test_a_failure_on_the_way_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    path.write_bytes(b"precious")

    def broken(level: int):
        yield from []
        raise RuntimeError("no more tiles")

    with pytest.raises(RuntimeError, match="no more tiles"):
        write_pyramid(path, PyramidSpec(9, 9), broken, mpp=None, provenance={}, name="a")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_stored_is_refused():
    with pytest.raises(OutputFormatError, match="choose jpeg, zstd, deflate"):
        PyramidSpec(9, 9, compression="webp")
    for impossible in ({"samples": 3, "dtype": "float32"}, {"height": 0}):
        with pytest.raises(OutputError, match="give an 8-bit image"):
            PyramidSpec(**{"height": 9, "width": 9, **impossible})
    with pytest.raises(OutputError, match="JPEG would falsify"):
        PyramidSpec(9, 9, 1)
    spec = PyramidSpec(600, 600)
    for shape in ((600, 4, 3), (4, 4), (0, 4, 3)):
        with pytest.raises(OutputError, match="at most 512 x 512"):
            encode_tile(np.zeros(shape, np.uint8), spec)
