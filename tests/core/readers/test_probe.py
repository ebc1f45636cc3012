"""Files that end a process are refused by one that is there for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_focusfuse.readers import open_slide, probe
from napari_focusfuse.readers.openslide import open_openslide, vendor
from napari_focusfuse.slide import SlideError
from slide_files import Stack, make_stack, write_mirax, write_ome

pytestmark = pytest.mark.usefixtures("probing")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="no limit of memory elsewhere")


@pytest.fixture
def probing() -> Iterator[None]:
    with probe.probing(True):
        yield


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every child that is started."""
    started: list[str] = []
    run = subprocess.run

    def noting(command, **options):
        started.append(command[-1])
        return run(command, **options)

    monkeypatch.setattr(probe.subprocess, "run", noting)
    return started


def edited(folder: Path, pattern: str, value: str) -> Path:
    """Return a sound MIRAX slide but for one value of its Slidedat.ini."""
    path = write_mirax(folder / "s.mrxs", make_stack(1, 64, 64)[0], ["ZStackLevel_(0)"])
    ini = folder / "s" / "Slidedat.ini"
    text, count = re.subn(rf"({pattern}) = \d+", rf"\1 = {value}", ini.read_bytes().decode())
    assert count
    ini.write_bytes(text.encode())
    return path


BOMBS = {
    "size that overflows": ("DIGITIZER_WIDTH|DIGITIZER_HEIGHT", "65000"),
    "count of files": ("FILE_COUNT", "2000000000"),
}


def test_openslide_really_ends_the_process(tmp_path):
    path = edited(tmp_path, *BOMBS["size that overflows"])
    code = (
        "import openslide, sys\n"
        "try:\n"
        "    openslide.OpenSlide(sys.argv[1]).read_region((0, 0), 0, (64, 64))\n"
        "except BaseException:\n"
        "    print('told')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""


@LINUX
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("door", [open_openslide, vendor], ids=["open", "detect"])
def test_what_ends_the_child_is_one_sentence_here(bomb, door, tmp_path):
    path = edited(tmp_path, *bomb)
    with pytest.raises(SlideError, match=r"^s\.mrxs is not opened: .* died of it \(signal 6\)"):
        door(path)


def test_a_sound_slide_is_tried_once(tmp_path, scanner_file, children):
    path = tmp_path / "slide.svs"
    path.write_bytes(scanner_file.read_bytes())
    for _ in range(2):
        with open_slide(path, probe=True) as slide:
            assert slide.properties["openslide.vendor"] == "aperio"
    assert children == [str(path)]
    os.utime(path, (1, 1))  # another file, as far as one can tell
    open_slide(path, probe=True).close()
    assert children == [str(path)] * 2


def test_a_bad_slide_is_tried_once_and_again_when_it_was_mended(tmp_path, children):
    path = edited(tmp_path, "DIGITIZER_WIDTH|DIGITIZER_HEIGHT", "65000")
    for _ in range(2):
        with pytest.raises(SlideError, match="is not opened"):
            vendor(path)
    assert len(children) == 1
    ini = tmp_path / "s" / "Slidedat.ini"
    ini.write_bytes(ini.read_bytes().replace(b"65000", b"64"))
    assert vendor(path) == "mirax"
    assert len(children) == 2


def test_it_can_be_turned_off(tmp_path, stack, scanner_file, children, monkeypatch):
    open_slide(scanner_file, probe=False).close()
    monkeypatch.setenv(probe.VARIABLE, "0")
    open_slide(scanner_file).close()
    assert children == []
    monkeypatch.delenv(probe.VARIABLE)
    open_slide(write_ome(tmp_path / "s.ome.tif", stack)).close()
    assert len(children) == 1


def test_it_is_on_unless_told(monkeypatch):
    with probe.probing(None):
        monkeypatch.delenv(probe.VARIABLE, raising=False)
        assert probe.is_probing()
        monkeypatch.setenv(probe.VARIABLE, "0")
        assert not probe.is_probing()
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        monkeypatch.delenv(probe.VARIABLE)
        assert not probe.is_probing()  # no Python to start


def test_what_takes_too_long_is_told(tmp_path, stack: Stack, monkeypatch):
    path = write_ome(tmp_path / "s.ome.tif", stack)
    monkeypatch.setattr(probe, "TIME_LIMIT_S", 0.001)
    with pytest.raises(SlideError, match=r"was still busy after 0\.001 seconds"):
        open_slide(path, probe=True)


@LINUX
def test_what_works_without_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "TIME_LIMIT_S", 1.0)
    path = edited(tmp_path, "IMAGENUMBER_X", "1000000000")
    with pytest.raises(SlideError, match=r"died of it \(signal (6|9|24)\)|was still busy"):
        open_openslide(path)


def test_a_clean_error_is_told_in_its_own_words(tmp_path):
    path = edited(tmp_path, "HIER_0_COUNT", "0")
    with pytest.raises(SlideError, match=r"s\.mrxs is damaged or incomplete"):
        open_openslide(path)


def test_without_the_library_or_a_python_files_are_opened_all_the_same(
    tmp_path, stack, monkeypatch
):
    path = write_ome(tmp_path / "s.ome.tif", stack)
    monkeypatch.setattr(probe.sys, "path", [os.path.dirname(os.__file__)])
    assert probe.probe(path, "openslide") is None
    monkeypatch.undo()
    monkeypatch.setattr(probe.sys, "executable", str(tmp_path / "nowhere"))
    assert probe.probe(path, "openslide") is None


def test_the_child_loads_only_what_it_needs(scanner_file):
    code = (
        "import runpy, sys\n"
        "sys.argv[0:1] = []\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    child = probe.__file__.replace("probe.py", "probe_child.py")
    folders = json.dumps([folder for folder in sys.path if folder])
    arguments = [child, "openslide", str(2 << 30), folders, str(scanner_file)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    answer, modules = done.stdout.splitlines()
    assert json.loads(answer) == {"format": "aperio"}
    heavy = {"napari", "napari_focusfuse", "numpy", "torch", "qtpy", "zarr", "tifffile"}
    assert not heavy & set(modules.split())
