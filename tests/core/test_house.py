"""The house: what loads what, what runs where, and what the papers beside the code promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("napari_focusfuse", "focusfuse_training")
HEAVY = (
    "torch", "napari", "qtpy", "PyQt6", "PySide6", "vispy", "magicgui", "superqt", "zarr",
    "tifffile", "openslide", "lightning_fabric",
)  # fmt: skip


def run_python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter that has no display; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=without_display(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def without_display() -> dict[str, str]:
    import os

    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"}
    return {key: value for key, value in os.environ.items() if key not in hidden}


LOADED = "import sys; {}; print(*sorted(set(sys.argv[1:]) & set(sys.modules)))"


@pytest.mark.parametrize(
    "statement",
    [
        "import napari_focusfuse",
        "import napari_focusfuse.cli",
        "import napari_focusfuse.readers",
        "import napari_focusfuse.napari_reader",
        "import napari_focusfuse.napari_writer",
        "import napari_focusfuse.layer_metadata",
        "import napari_focusfuse.training_run",
        "import napari_focusfuse.comparison",
    ],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert run_python(LOADED.format(statement), *HEAVY) == ""


@pytest.mark.parametrize(
    "module", ["fusion.catalogue", "fusion.plan", "fusion.planes", "model_card", "sample_data"]
)
def test_what_the_window_needs_before_a_click_is_free_of_torch(module: str) -> None:
    assert run_python(LOADED.format(f"import napari_focusfuse.{module}"), "torch") == ""


IMPORT_ALL = """
import builtins, importlib, os, pkgutil, sys

BLOCKED = {"fcntl", "resource", "pwd", "grp", "termios"}
ours = tuple(sys.argv[1:])
plain_import = builtins.__import__

def portable_import(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name.split(".")[0] in BLOCKED and importer.startswith(ours):
        raise ModuleNotFoundError(f"{importer} imports {name}, which Windows does not have")
    return plain_import(name, globals, locals, fromlist, level)

# Others know on which system they are; they are loaded before it changes.
import torch, tifffile, zarr, napari.layers, qtpy.QtWidgets, magicgui.widgets, superqt
builtins.__import__ = portable_import
for name in ("pread", "preadv", "pwrite", "pwritev"):
    if hasattr(os, name):
        delattr(os, name)

count = 0
for package in ours:
    top = importlib.import_module(package)
    for module in pkgutil.walk_packages(top.__path__, package + "."):
        if module.name.endswith("__main__"):
            continue
        importlib.import_module(module.name)
        count += 1
print(count)
"""


def test_every_module_imports_without_posix_and_without_a_display() -> None:
    modules = [
        path
        for package in (ROOT / "src" / PACKAGES[0], ROOT / "training" / PACKAGES[1])
        for path in package.rglob("*.py")
        if path.name != "__main__.py"
    ]
    packages_at_the_top = len(PACKAGES)
    assert int(run_python(IMPORT_ALL, *PACKAGES)) == len(modules) - packages_at_the_top


def test_installed_distribution_has_the_command_the_manifest_and_both_packages() -> None:
    scripts = {(e.group, e.name) for e in distribution("napari-focusfuse").entry_points}
    assert ("console_scripts", "focusfuse") in scripts
    assert ("napari.manifest", "napari-focusfuse") in scripts
    code = "import importlib.util as u, sys; print(all(u.find_spec(n) for n in sys.argv[1:]))"
    assert run_python(code, *PACKAGES) == "True"


def test_version_is_the_same_everywhere() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version("napari-focusfuse") == stated
    assert citation is not None
    assert citation[1] == stated


@pytest.mark.parametrize("marker", ["install-and-run", "install-and-test"])
def test_readme_gives_each_command_on_one_line(marker: str) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(rf"^<!-- {marker} -->\n```bash\n(.+?)```", readme, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert len(block[1].strip().splitlines()) == 1
    assert marker in (ROOT / ".ci" / "run").read_text()


def test_readme_names_only_commands_and_options_that_exist() -> None:
    from typer.main import get_command

    from napari_focusfuse.cli import app

    program = get_command(app)
    options = {
        command: {text for p in program.commands[command].params for text in p.opts}
        for command in program.commands
    }
    readme = (ROOT / "README.md").read_text()
    calls = re.findall(r"focusfuse ([a-z]+)((?: [^`#\n]+)?)", readme)
    calls = [(name, rest) for name, rest in calls if name in options]
    assert {name for name, _ in calls} == set(options)
    for name, rest in calls:
        assert set(re.findall(r"(?<=\s)--?[a-z-]+", rest)) <= options[name], (name, rest)


def test_pictures_and_files_the_readme_points_to_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
