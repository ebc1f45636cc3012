"""One table of all formats: what every reader must give, refuse and leave behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shell import Shell

from czi_files import write_czi
from dicom_files import PATIENT, write_dicom
from mrxs_files import Layout, focus_slots, write_mrxs
from napari_focusfuse.readers import open_slide, probe
from napari_focusfuse.slide import FocusFuseError, SlideError, UnsupportedSlideError
from reading import read_everything
from slide_files import (
    make_stack,
    pyramid,
    write_aperio,
    write_folder,
    write_ndpi,
    write_ome,
    write_pages,
)
from zarr_files import write_ome_zarr

STACK = make_stack(3, 128, 160)
FUSED = STACK.max(axis=0)
Z_UM = (-2.7, 0.0, 2.7)
MICROMETRES = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.7}


def write_ome_with_extended_focus(path: Path) -> Path:
    facts = {"axes": "ZYXS", **MICROMETRES}
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image, metadata in (
            (STACK, facts),
            (FUSED, {"axes": "YXS", "Name": "Extended focus"}),
        ):
            writer.write(image, photometric="rgb", tile=(64, 64), metadata=metadata)
    return path


def write_mirax_stack(path: Path) -> Path:
    slots = focus_slots(list(STACK), -1, fused=FUSED, step=2.7)
    return write_mrxs(path, slots, Layout(tile=(32, 40), zooms=2))


@dataclass(frozen=True)
class Case:
    """One kind of slide; its planes are those of ``STACK``, z increasing."""

    format: str
    write: Callable[[Path], Path]
    """Takes an empty folder, returns what is opened."""
    z_um: tuple[float, ...] | None = None
    zero: int = 1
    levels: int = 2
    mpp: tuple[float, float] | None = (0.25, 0.25)
    extended: bool = False
    error: float = 0.0
    planes: int = 3
    risky: bool = False
    """Read by a library that may end the process, so that damaged files are tried in a child."""


CASES = {
    "OME-TIFF": Case(
        "tiff", lambda f: write_ome(f / "s.ome.tif", STACK, levels=2, **MICROMETRES), (0, 2.7, 5.4)
    ),
    "OME-TIFF with extended focus": Case(
        "tiff",
        lambda f: write_ome_with_extended_focus(f / "s.ome.tif"),
        (0, 2.7, 5.4),
        levels=1,
        extended=True,
    ),
    "TIFF": Case("tiff", lambda f: write_pages(f / "s.tif", STACK), levels=1, mpp=None),
    "NDPI": Case(
        "tiff",
        lambda f: write_ndpi(f / "s.ndpi", STACK[[1, 0, 2]], [0, -2700, 2700]),
        Z_UM,
        error=2.5,
    ),
    "Aperio": Case(
        "tiff", lambda f: write_aperio(f / "s.svs", STACK[[1, 0, 2]], [0, -2.7, 2.7]), Z_UM
    ),
    "Aperio of one plane": Case(
        "openslide",
        lambda f: write_aperio(f / "s.svs", STACK[:1], [0]),
        zero=0,
        planes=1,
        risky=True,
    ),
    "DICOM": Case(
        "dicom",
        lambda f: write_dicom(f / "s", STACK, heights_um=Z_UM, origin_um=-2.7, fused=FUSED),
        Z_UM,
        mpp=(0.5, 0.25),
        extended=True,
    ),
    "DICOM, sparse": Case(
        "dicom",
        lambda f: write_dicom(f / "s", STACK, tiling="sparse", heights_um=Z_UM),
        Z_UM,
        mpp=(0.5, 0.25),
    ),
    "OME-Zarr 0.4": Case(
        "ome-zarr",
        lambda f: write_ome_zarr(f / "s.ome.zarr", STACK, lowest=-2.7),
        Z_UM,
        mpp=(0.5, 0.25),
    ),
    "OME-Zarr 0.5": Case(
        "ome-zarr",
        lambda f: write_ome_zarr(f / "s.ome.zarr", STACK, version="0.5", lowest=-2.7),
        Z_UM,
        mpp=(0.5, 0.25),
    ),
    "CZI": Case(
        "czi",
        lambda f: write_czi(f / "s.czi", STACK),
        (0, 2.7, 5.4),
        mpp=(0.5, 0.25),
        risky=True,
    ),
    "MIRAX": Case(
        "mrxs",
        lambda f: write_mirax_stack(f / "s.mrxs"),
        Z_UM,
        mpp=(0.5, 0.25),
        extended=True,
    ),
    "folder": Case("folder", lambda f: write_folder(f / "s", STACK), levels=1, mpp=None),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "CZI":
        pytest.importorskip("pylibCZIrw.czi")
    return CASES[request.param]


def files_of(path: Path) -> list[Path]:
    """Return the files of a slide, the largest first."""
    folder = path.with_suffix("") if path.suffix == ".mrxs" else path
    files = [file for file in folder.rglob("*") if file.is_file()] or [path]
    return sorted(files, key=lambda file: (-file.stat().st_size, file))


def memory_maps() -> str:
    """Return what is mapped into memory: a file cut short while it is ends the process (SIGBUS)."""
    maps = Path("/proc/self/maps")
    return maps.read_text() if maps.exists() else ""


def test_every_format_gives_the_truth_and_leaves_nothing_open(case, tmp_path, open_files):
    with open_slide(case.write(tmp_path), probe=True) as slide:
        assert slide.format == case.format
        assert (len(slide.planes), slide.zero) == (case.planes, case.zero)
        assert [plane.index for plane in slide.planes] == list(range(case.planes))
        found = [plane.z_um for plane in slide.planes]
        assert found == ([None] * case.planes if case.z_um is None else pytest.approx(case.z_um))
        assert slide.mpp == (None if case.mpp is None else pytest.approx(case.mpp))
        assert (slide.extended is not None) == case.extended
        assert (slide.not_shown, slide.warnings) == ([], [])
        assert len(slide.levels) == case.levels
        for number, image in enumerate(pyramid(STACK[: case.planes], case.levels)):
            level = slide.levels[number]
            assert (level.shape, level.downsample) == (image.shape[1:3], (2**number, 2**number))
            read = slide.read_stack(slide.planes, number, 0, 0, *level.shape)
            assert np.abs(read.astype(int) - image).mean((1, 2, 3)).max() <= case.error
            part = slide.read_region(slide.planes[-1], number, 13, 7, 40, 31)
            assert (part == read[-1, 13:53, 7:38]).all()
        assert slide.tile_hint(0)[0] > 0
        over_the_edge = slide.read_region(slide.planes[0], 0, -10, -10, 20, 20)
        assert (over_the_edge[:10] == slide.background).all()
        assert (
            over_the_edge[10:, 10:] == slide.read_region(slide.planes[0], 0, 0, 0, 10, 10)
        ).all()
        if slide.extended is not None:
            assert slide.extended not in slide.planes
            assert (slide.read_region(slide.extended, 0, 0, 0, 128, 160) == FUSED).all()
        assert PATIENT not in json.dumps(slide.properties)
        assert str(tmp_path) not in memory_maps()
    assert open_files(tmp_path) == []


NAMES = {
    "spaces and signs": "with space #%20 & 'quote' [x] {y}",
    "other scripts": "ünïcode 載玻片 сосуд",
    "a dot at the end": "dot.",
    "longer than Windows likes": "/".join(["a folder with a rather long name " * 3] * 3),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_path_is_fine(case, name, tmp_path, open_files):
    if sys.platform == "win32" and (len(name) > 200 or name.endswith(".")):
        pytest.skip("Windows has no such folder")
    folder = tmp_path / name
    folder.mkdir(parents=True)
    path = case.write(folder)
    for door in (path, str(path)):
        with open_slide(door) as slide:
            read = slide.read_region(slide.planes[-1], 0, 5, 6, 7, 8)
            expected = STACK[case.planes - 1, 5:12, 6:14]
            assert np.abs(read.astype(int) - expected).mean() <= 2 * case.error
    assert open_files(tmp_path) == []


@pytest.fixture
def in_a_child(case: Case) -> Iterator[None]:
    with probe.probing(case.risky):
        yield


@pytest.mark.usefixtures("in_a_child")
def test_a_file_cut_anywhere_is_told_or_readable(case, tmp_path, open_files):
    path = case.write(tmp_path)
    for file in files_of(path)[:3]:
        sound = file.read_bytes()
        for part in range(0, 64, 13 if case.risky else 5):
            file.write_bytes(sound[: len(sound) * part // 64])
            read_everything(path)
        file.write_bytes(sound)
    with open_slide(path) as slide:
        assert slide.read_region(slide.planes[0], 0, 0, 0, 9, 9).shape == (9, 9, 3)
    assert open_files(tmp_path) == []


def test_an_empty_file_is_told(case, tmp_path):
    path = case.write(tmp_path)
    for file in files_of(path):
        file.write_bytes(b"")
    with pytest.raises(SlideError) as told:
        open_slide(path)
    assert str(told.value).count("\n") == 0
    assert path.name in str(told.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps open files as they are")
@pytest.mark.parametrize("harm", ["gone", "replaced", "longer", "shorter"])
def test_a_slide_that_changes_while_it_is_open_is_told(case, harm, tmp_path, open_files):
    path = case.write(tmp_path)
    with open_slide(path) as slide:
        slide.read_region(slide.planes[0], 0, 0, 0, 9, 9)
        for file in files_of(path):
            if harm == "gone":
                file.unlink()
            elif harm == "replaced":
                other = file.with_name("other")
                other.write_bytes(file.read_bytes())
                os.replace(other, file)
            else:
                with file.open("r+b") as stream:
                    size = file.stat().st_size
                    stream.truncate(size // 2 if harm == "shorter" else size + 100)
        word = "disappeared" if harm == "gone" else "changed"
        with pytest.raises(SlideError, match=rf"{word} while it was open; .*open it again\.$"):
            slide.read_region(slide.planes[0], 0, 40, 50, 9, 9)
    assert open_files(tmp_path) == []


def test_a_moved_folder_is_told(tmp_path):
    path = write_ome_zarr(tmp_path / "s.zarr", STACK)
    with open_slide(path) as slide:
        shutil.move(path, tmp_path / "elsewhere")
        with pytest.raises(SlideError, match="disappeared while it was open"):
            slide.read_region(slide.planes[0], 0, 0, 0, 9, 9)


ONE_PLANE: dict[str, Callable[[Path], Path]] = {
    "OME-TIFF": lambda f: write_ome(f / "s.ome.tif", STACK[:1], levels=1),
    "DICOM": lambda f: write_dicom(f / "s", STACK[:1], heights_um=[0.0]),
    "OME-Zarr": lambda f: write_ome_zarr(f / "s.zarr", STACK[:1]),
    "CZI": lambda f: write_czi(f / "s.czi", STACK[:1]),
}


@pytest.mark.parametrize("write", ONE_PLANE.values(), ids=ONE_PLANE)
def test_one_plane_is_a_slide_of_one_plane(write, tmp_path):
    with open_slide(write(tmp_path)) as slide:
        assert [(plane.index, plane.z_um) for plane in slide.planes] in ([(0, None)], [(0, 0.0)])
        assert slide.z_step_um is None
        assert (slide.read_region(slide.planes[0], 0, 0, 0, 128, 160) == STACK[0]).all()


def test_a_missing_plane_shortens_a_stack_and_is_told(tmp_path):
    folder = write_dicom(tmp_path / "s", STACK, split="planes", heights_um=Z_UM, tiling="sparse")
    (folder / "0_0_0.dcm").unlink()
    with open_slide(folder) as slide:
        assert [plane.z_um for plane in slide.planes] == [0.0, 2.7]
        assert slide.not_shown == ["a level of 80 x 64 pixels with other focus layers"]
        assert (slide.read_stack(slide.planes, 0, 0, 0, 128, 160) == STACK[1:]).all()


def test_planes_of_different_size_are_told(tmp_path):
    folder = write_folder(tmp_path / "s", STACK)
    Image.fromarray(STACK[0, :100]).save(folder / "plane_2.png")
    with pytest.raises(SlideError, match="differ in size"):
        open_slide(folder)


COMMA = """
import json, locale, sys
from napari_focusfuse.readers import open_slide
for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
    try:
        locale.setlocale(locale.LC_ALL, name)
        break
    except locale.Error:
        continue
with open_slide(sys.argv[1]) as slide:
    print(json.dumps([slide.mpp, [plane.z_um for plane in slide.planes]]))
"""


def test_the_language_of_the_computer_changes_no_number(tmp_path):
    """Where the system has no German or French, the file alone has the comma."""
    path = write_ome(tmp_path / "s.ome.tif", STACK, levels=1, **MICROMETRES)
    comma = tmp_path / "comma.ome.tif"
    shutil.copy(path, comma)
    text = tifffile.tiffcomment(comma)
    for axis, size in (("X", "0.25"), ("Y", "0.25"), ("Z", "2.7")):
        text = text.replace(
            f'PhysicalSize{axis}="{size}"', f'PhysicalSize{axis}="{size.replace(".", ",")}"'
        )
    tifffile.tiffcomment(comma, text.encode())
    for file in (path, comma):
        done = subprocess.run(
            [sys.executable, "-c", COMMA, str(file)], capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == [[0.25, 0.25], [0.0, 2.7, 5.4]]


def test_nothing_of_a_patient_leaves_with_a_fused_image(tmp_path, capsys):
    """Neither names nor label and macro: only the name of the file is kept."""
    folder = write_dicom(tmp_path / "s", STACK, label=STACK[0, :64, :64], heights_um=Z_UM)
    out = tmp_path / "fused.ome.tif"
    shell = Shell(capsys)
    fused = shell("fuse", folder, "-o", out, "--method", "argmax", "--compression", "zstd")
    assert fused.code == 0, fused.err
    inspected = shell("inspect", folder, "--json")
    for secret in ("Doe", "0815"):
        assert secret not in inspected.out + fused.out + fused.err
    assert str(tmp_path) not in inspected.out
    with tifffile.TiffFile(out) as file:
        assert len(file.series) == 1
        assert PATIENT.split("^")[0] not in str([page.tags for page in file.pages])
    content = out.read_bytes()
    for secret in (b"Doe", b"0815", str(tmp_path).encode(), b"label", b"LABEL", b"macro"):
        assert secret not in content


def test_a_folder_of_anything_is_told_in_one_sentence(tmp_path):
    for name in ("zarr.json", "a.dcm", "b.png", "DICOMDIR", ".zattrs"):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(FocusFuseError) as told:
        open_slide(tmp_path)
    assert "\n" not in str(told.value)
    (tmp_path / "zarr.json").unlink()
    (tmp_path / ".zattrs").unlink()
    with pytest.raises((SlideError, UnsupportedSlideError)):
        open_slide(tmp_path)
