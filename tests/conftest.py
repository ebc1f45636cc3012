from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist (``-n 2 --dist loadgroup``) a file stays together, and so do all windows."""
    for item in items:
        gui = "gui" in item.path.parts
        item.add_marker(pytest.mark.xdist_group("window" if gui else item.path.stem))
