"""What a person gets wrong, through the shell: one clear sentence, and an exit code for scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shell import Shell, pixels, run_process, textured, write_stack


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.ome.tif"
    write_stack(path)
    return path


@pytest.fixture
def single(tmp_path: Path) -> Path:
    path = tmp_path / "single.ome.tif"
    write_stack(path, planes=1)
    return path


def refused(shell: Shell, *arguments: str | Path, code: int = 4) -> str:
    """Return the sentence with which a call is refused."""
    answer = shell(*arguments)
    assert answer.code == code, answer.err
    assert answer.out == ""
    sentence = answer.complaint
    assert sentence.endswith((".", ")")), sentence
    assert "Unexpected" not in sentence
    return sentence


# --- files


def test_missing_file(shell: Shell, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.ome.tif", tmp_path / "no folder" / "x.ndpi"):
        sentence = refused(shell, "inspect", path, "--json")
        assert path.name in sentence
        assert "exist" in sentence


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(shell: Shell, tmp_path: Path, stack: Path, share: float) -> None:
    content = stack.read_bytes()
    cut = tmp_path / "cut.ome.tif"
    cut.write_bytes(content[: int(len(content) * share)])
    sentence = refused(shell, "fuse", cut, "-o", tmp_path / "o.png", "--method", "argmax")
    assert "cut.ome.tif" in sentence
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("suffix", [".ome.tif", ".ndpi", ".svs", ".mrxs", ".png", ""])
def test_empty_file(shell: Shell, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty{suffix}"
    path.touch()
    assert f"empty{suffix}" in refused(shell, "inspect", path)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ndpi", ".svs", ".txt"])
def test_file_that_is_no_image(shell: Shell, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"letter{suffix}"
    path.write_text("Dear colleague, " * 1000)
    assert f"letter{suffix}" in refused(shell, "inspect", path)


def test_tiff_start_with_nonsense_behind_it(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "odd.ome.tif"
    rng = np.random.default_rng(1)
    for start in (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0"):
        path.write_bytes(start + rng.bytes(4000))
        assert "odd.ome.tif" in refused(shell, "inspect", path)


@pytest.mark.parametrize(
    ("values", "photometric"),
    [(np.zeros((64, 64), np.uint8), "minisblack"), (np.zeros((64, 64, 3), np.uint16), "rgb")],
)
def test_grey_and_16_bit_images(
    shell: Shell, tmp_path: Path, values: np.ndarray, photometric: str
) -> None:
    path = tmp_path / "other.ome.tif"
    tifffile.imwrite(path, values, photometric=photometric)
    assert "8-bit RGB" in refused(shell, "inspect", path)


def test_folder_with_one_image_or_none(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "layers"
    folder.mkdir()
    assert "layers" in refused(shell, "inspect", folder)
    Image.fromarray(textured(1, 40, 40)[0]).save(folder / "z0.png")
    assert "layers" in refused(shell, "inspect", folder)


def test_planes_of_different_size(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "layers"
    folder.mkdir()
    Image.fromarray(textured(1, 40, 40)[0]).save(folder / "z0.png")
    Image.fromarray(textured(1, 40, 41)[0]).save(folder / "z1.png")
    sentence = refused(shell, "inspect", folder)
    assert "layers" in sentence
    assert "size" in sentence or "41" in sentence


# --- requests that do not suit the slide


def test_three_planes_of_a_single_plane_slide(shell: Shell, single: Path, tmp_path: Path) -> None:
    for planes in ((), ("--planes=-1,0,1",)):
        sentence = refused(
            shell, "fuse", single, "-o", tmp_path / "o.png", "--method", "argmax", *planes
        )
        assert "single.ome.tif" in sentence
        assert "one layer" in sentence
        assert "--planes 0" in sentence
    done = shell("fuse", single, "-o", tmp_path / "o.png", "--method", "argmax", "--planes", "0")
    assert done.code == 0, done.err


def test_a_model_for_three_planes_on_a_single_plane_slide(
    shell: Shell, single: Path, tmp_path: Path
) -> None:
    from napari_focusfuse.fusion.catalogue import available_methods

    three = [i.name for i in available_methods() if i.plane_offsets and len(i.plane_offsets) == 3]
    for name in three:
        for planes in ((), ("--planes", "0"), ("--planes", "all")):
            sentence = refused(
                shell, "fuse", single, "-o", tmp_path / "o.png", "--method", name, *planes
            )
            assert "layer" in sentence


def test_three_planes_at_the_end_of_a_stack(shell: Shell, stack: Path, tmp_path: Path) -> None:
    for zero in ("0", "4"):
        sentence = refused(
            shell, "fuse", stack, "-o", tmp_path / "o.png", "--method", "argmax", "--zero", zero
        )
        assert "one layer" in sentence


def test_planes_and_zero_that_the_slide_does_not_have(
    shell: Shell, stack: Path, tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "o.png", "--method", "argmax")
    assert "-2 to +2" in refused(shell, "fuse", stack, *out, "--planes", "-1,0,9")
    assert "0 to 4" in refused(shell, "fuse", stack, *out, "--zero", "5")
    assert "0 to 4" in refused(shell, "inspect", stack, "--zero", "-1")


@pytest.mark.parametrize(
    "region", ["96,0,10,10", "0,128,10,10", "-50,0,50,50", "0,0,0,10", "0,0,10,-3", "1e9,0,1,1"]
)
def test_region_outside_the_slide(shell: Shell, stack: Path, tmp_path: Path, region: str) -> None:
    usage = "e" in region
    sentence = refused(
        shell, "fuse", stack, "-o", tmp_path / "o.png", "--method", "argmax", "--region", region,
        code=1 if usage else 4,
    )  # fmt: skip
    assert "region" in sentence
    assert usage or ("96" in sentence and "128" in sentence)


def test_a_level_the_slide_does_not_have(shell: Shell, stack: Path, tmp_path: Path) -> None:
    for level in ("1", "-1"):
        arguments = ("-o", tmp_path / "o.png", "--method", "argmax", "--level", level)
        assert "levels 0 to 0" in refused(shell, "fuse", stack, *arguments)


def test_an_unknown_method_and_a_model_file_that_is_none(
    shell: Shell, stack: Path, tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "o.png")
    assert "argmax" in refused(shell, "fuse", stack, *out, "--method", "magic", code=1)
    pickled = tmp_path / "evil.pt"
    pickled.write_bytes(b"\x80\x04\x95nonsense.")
    marker = refused(shell, "fuse", stack, *out, "--method", pickled)
    assert "evil.pt" in marker
    assert "evil.pt" in refused(shell, "models", pickled)


# --- the machine


def test_a_gpu_that_is_not_there(shell: Shell, stack: Path, tmp_path: Path) -> None:
    import torch

    arguments = ("fuse", stack, "-o", tmp_path / "o.png", "--method", "argmax", "--device")
    if not torch.cuda.is_available():
        assert "NVIDIA" in refused(shell, *arguments, "cuda", code=1)
    if not torch.backends.mps.is_available():
        assert "Apple" in refused(shell, *arguments, "mps", code=1)
    assert "abacus" in refused(shell, *arguments, "abacus", code=1)


def test_without_a_display_everything_but_the_window_works(stack: Path, tmp_path: Path) -> None:
    hidden = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = run_process(
        "fuse", stack, "-o", tmp_path / "o.png", "--method", "argmax", "--planes", "0", **hidden
    )
    assert done.code == 0, done.err
    assert pixels(tmp_path / "o.png").shape == (96, 128, 3)


def test_output_folder_that_cannot_be(shell: Shell, stack: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "o.png", tmp_path / "no" / "such" / "o.png"):
        sentence = refused(shell, "fuse", stack, "-o", out, "--method", "argmax", code=5)
        assert str(out.parent.name) in sentence


@pytest.mark.skipif(sys.platform == "win32", reason="a read-only folder is another thing there")
def test_read_only_output_folder(stack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    program = [sys.executable, "-m", "napari_focusfuse.cli", "fuse", str(stack)]
    program += ["-o", str(folder / "o.png"), "--method", "argmax"]
    if os.geteuid() == 0:
        # No mode keeps root out; a read-only file system does.
        if not shutil.which("unshare"):
            pytest.skip("root, and no unshare to mount a read-only folder with")
        mount = f"mount -t tmpfs -o ro,size=1m tmpfs '{folder}' || exit 99; exec \"$@\""
        program = ["unshare", "--mount", "sh", "-c", mount, "sh", *program]
    folder.chmod(0o555)
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("root, and nothing may be mounted here")
    assert done.returncode == 5, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "readonly" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


def test_no_space_left(shell: Shell, stack: Path) -> None:
    from napari_focusfuse.cli.program import explain

    sentence, code = explain(OSError(28, "No space left on device", "o.png"))
    assert code == 5
    assert "o.png" in sentence


# --- compare


def test_compare_of_what_cannot_be_compared(
    shell: Shell, stack: Path, single: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.png"
    Image.fromarray(textured(1, 50, 60)[0]).save(small)
    sentence = refused(shell, "compare", small, single, "--json")
    assert "--register" in sentence
    assert "nowhere.png" in refused(shell, "compare", small, tmp_path / "nowhere.png")
    (tmp_path / "no.png").write_bytes(b"no picture")
    assert "no.png" in refused(shell, "compare", tmp_path / "no.png", small)


def test_register_refuses_pictures_that_do_not_match(shell: Shell, tmp_path: Path) -> None:
    for name, seed, side in (("a", 1, 256), ("b", 2, 300)):
        Image.fromarray(textured(1, side, side, seed=seed)[0]).save(tmp_path / f"{name}.png")
    sentence = refused(shell, "compare", tmp_path / "a.png", tmp_path / "b.png", "--register")
    assert "match" in sentence or "peak" in sentence
