"""The fuzz target of the MIRAX parsers: first inputs pass, and limits find what they must."""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Callable

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("limits of memory and time as Linux has them", allow_module_level=True)

from fuzz import fuzz_mrxs
from fuzz.fuzz_mrxs import MOST_BYTES, Slow, Target, seeds
from mrxs_files import Layout, focus_slots, write_mrxs
from napari_focusfuse.readers import mrxs

UNCHANGED = bytes([0, 0, 0])


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Target:
    return Target(tmp_path_factory.mktemp("fuzz"))


def test_a_patch_of_every_kind_is_told_or_read(target):
    inputs = dict(seeds())
    assert len(inputs) == 64
    for data in inputs.values():
        target(data)
    assert [slide.with_suffix("").is_dir() for slide in target.slides] == [True] * 4


def allocate() -> None:
    # Far over the limit: threads of other tests that end meanwhile give address space back.
    np.zeros(4 * MOST_BYTES, np.uint8)


def loop() -> None:
    while True:
        pass


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("fault", "finding"),
    [(allocate, MemoryError), (loop, Slow), (interrupt, KeyboardInterrupt)],
)
def test_what_counts_as_a_finding(target, monkeypatch, fault: Callable[[], None], finding):
    target(UNCHANGED)
    monkeypatch.setattr(fuzz_mrxs, "MOST_SECONDS", 0.5)
    gc.collect()  # what other tests left behind is not given back under the limit
    read = mrxs.read_structure
    monkeypatch.setattr(mrxs, "read_structure", lambda *given: fault() or read(*given))
    with pytest.raises(finding):
        target(UNCHANGED)


def test_an_empty_list_of_the_first_slot_leaves_the_others(tmp_path):
    first, second = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    path = write_mrxs(
        tmp_path / "s.mrxs", focus_slots([second], fused=first), Layout(tile=(16, 24), zooms=1)
    )
    index = tmp_path / "s" / "Index.dat"
    data = bytearray(index.read_bytes())
    (table,) = struct.unpack_from("<i", data, 37)
    (head,) = struct.unpack_from("<i", data, table)
    (page,) = struct.unpack_from("<i", data, head + 4)
    struct.pack_into("<i", data, page, 0)
    index.write_bytes(data)
    with mrxs.open_mrxs(path) as slide:
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 32, 48) == second).all()
        assert (slide.read_region(slide.extended, 0, 0, 0, 32, 48) == 255).all()
