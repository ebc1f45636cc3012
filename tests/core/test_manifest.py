from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_focusfuse

PACKAGE = Path(napari_focusfuse.__file__).parent
MANIFEST = PACKAGE / "napari.yaml"
TOP = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


def test_the_file_at_the_top_is_the_packages() -> None:
    assert TOP.read_text() == MANIFEST.read_text()


def test_every_command_is_there(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    assert (manifest.name, manifest.display_name) == ("napari-focusfuse", "FocusFuse")
    assert manifest.categories


def test_every_sample_is_there(manifest: PluginManifest) -> None:
    samples = {sample.key for sample in manifest.contributions.sample_data or ()}
    assert samples == {"algae", "synthetic_smear"}
    assert (PACKAGE / "samples" / "algae.ome.tif").is_file()
    assert (PACKAGE / "samples" / "smear.ome.tif").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "a.ome.tif",
        "a.OME.TIFF",
        "a.tif",
        "b.ndpi",
        "b.svs",
        "b.svslide",
        "b.mrxs",
        "b.scn",
        "b.bif",
        "b.vms",
        "b.dcm",
        "b.czi",
    ],
)
def test_slides_are_offered_to_us(manifest: PluginManifest, name: str) -> None:
    (reader,) = manifest.contributions.readers or ()
    assert any(fnmatch(name.lower(), pattern) for pattern in reader.filename_patterns)
    assert reader.accepts_directories


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.csv", "a.zarr"])
def test_other_files_are_left_alone(manifest: PluginManifest, name: str) -> None:
    (reader,) = manifest.contributions.readers or ()
    assert not any(fnmatch(name, pattern) for pattern in reader.filename_patterns)


def test_the_plugins_modules_load_no_torch(manifest: PluginManifest) -> None:
    modules = {
        command.python_name.partition(":")[0]
        for command in manifest.contributions.commands or ()
        if command.python_name
    }
    code = f"""
import importlib, sys
for module in {sorted(modules)}:
    importlib.import_module(module)
print(sorted({{"torch", "tifffile", "zarr", "openslide"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
