"""What a slide says of its patient and its laboratory stays with it."""

from __future__ import annotations

from pathlib import Path

import openslide
import pytest
import tifffile

from napari_focusfuse import fuse, open_slide
from napari_focusfuse.slide import Region
from napari_focusfuse.writer import write_image

SLIDE = Path(__file__).parents[2] / "data" / "CMU-1-Small-Region.svs"
"""A real scan with label and macro."""


@pytest.mark.parametrize("name", ["a.ome.tif", "a.png", "a.ome.zarr"])
def test_label_macro_and_scanner_entries_do_not_reach_the_output(name, tmp_path):
    with open_slide(SLIDE) as slide:
        assert {"label", "macro"} <= set(slide.associated)
        said = [slide.properties[f"aperio.{key}"] for key in ("User", "Date", "Time", "ImageID")]
        said += [slide.properties["aperio.ScanScope ID"]]
        fusion = fuse(slide, Region(100, 100, 60, 70), planes=(0,), method="argmax")
    path = tmp_path / name
    write_image(path, fusion.image, mpp=fusion.plan.mpp, provenance=fusion.provenance)
    files = [file for file in (path, *path.rglob("*")) if file.is_file()]
    contents = b"".join(file.read_bytes() for file in files)
    assert b"argmax" in contents
    assert SLIDE.name.encode() in contents
    for text in (*said, str(SLIDE.parent)):
        assert text.encode() not in contents
    if not name.endswith(".png"):
        with open_slide(path) as written:
            assert not written.associated
            assert written.not_shown == []
    if name.endswith(".tif"):
        with openslide.OpenSlide(path) as written:
            assert not written.associated_images
        with tifffile.TiffFile(path) as file:
            assert len(file.series) == 1
