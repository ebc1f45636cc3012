from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from slide_files import Stack, make_stack

# A child for each of some thousand files takes minutes: those start them that are about them.
os.environ.setdefault("FOCUSFUSE_PROBE", "0")

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Three planes of 256 x 320."""
    return make_stack()


@pytest.fixture(scope="session")
def scanner_file() -> Path:
    """A real slide of one plane (data/SOURCE.txt)."""
    return DATA / "CMU-1-Small-Region.svs"


@pytest.fixture
def open_files() -> Callable[[Path], list[str]]:
    """Return which files under a folder this process holds open."""

    def under(folder: Path) -> list[str]:
        held = [file.path for file in psutil.Process().open_files()]
        return [path for path in held if Path(path).is_relative_to(folder)]

    return under
