from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_file_stays_open(
    open_files: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Every reader closes what it opened, whatever happened; fixtures may hold files longer."""
    folder = tmp_path_factory.getbasetemp()
    before = set(open_files(folder))
    yield
    assert sorted(set(open_files(folder)) - before) == []
