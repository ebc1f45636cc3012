from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_focusfuse.fusion.catalogue import load_method
from napari_focusfuse.fusion.region import finish, run_fusion
from napari_focusfuse.pixels import halve
from napari_focusfuse.readers import open_slide
from slide_jobs import digest, job_for, plan_of, run, write_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.ome.tif")


@pytest.fixture(scope="module")
def expected(slide: Path) -> np.ndarray:
    """The picture as it is fused in memory."""
    plan = plan_of(slide)
    with open_slide(slide) as opened:
        plan = plan_of(slide)
        object.__setattr__(plan, "slide", opened)
        return finish(run_fusion(plan, load_method("argmax", "cpu"))).image


@pytest.fixture(scope="module")
def reference(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as it is made in blocks of 512."""
    out = tmp_path_factory.mktemp("reference") / "fused.ome.tif"
    run(job_for(slide, out))
    return out


def test_every_level_is_that_of_the_fusion_in_memory(reference: Path, expected: np.ndarray) -> None:
    with tifffile.TiffFile(reference) as file:
        levels = file.series[0].levels
        assert len(levels) == 3
        for level in levels:
            np.testing.assert_array_equal(level.asarray(), expected)
            expected = halve(expected)


@pytest.mark.parametrize("block", [1024, 1536, 2048])
def test_the_size_of_a_block_changes_no_byte(
    slide: Path, reference: Path, tmp_path: Path, block: int
) -> None:
    out = tmp_path / "fused.ome.tif"
    run(job_for(slide, out, block=block), threads=3)
    assert digest(out) == digest(reference)
