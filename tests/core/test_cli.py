"""The command line, which scripts rely on: its words, its objects, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shell import Shell, pixels, run_process, textured, write_stack

from napari_focusfuse import open_slide, read_provenance
from napari_focusfuse.fusion import available_methods, blur_detector_info
from napari_focusfuse.metrics import score
from napari_focusfuse.model_card import shipped_models


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.ome.tif"
    write_stack(path)
    return path


# --- the program


def test_no_command_prints_the_help_and_is_a_usage_error(shell: Shell) -> None:
    answer = shell()
    assert (answer.code, answer.out) == (1, "")
    for name in ("demo", "inspect", "fuse", "mask", "compare", "methods", "models"):
        assert name in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("inspect",),
        ("inspect", "a", "b"),
        ("inspect", "a", "--zero", "middle"),
        ("fuse", "a"),
        ("fuse", "a", "-o", "b.png", "--frobnicate"),
        ("fuse", "a", "-o", "b.png", "--level", "1.5"),
        ("fuse", "a", "-o", "b.png", "--planes", "some"),
        ("fuse", "a", "-o", "b.png", "--region", "1,2,3"),
        ("fuse", "a", "-o", "b.png", "--map", "mask"),
        ("fuse", "a", "-o", "b.png", "--map", "gold=b2.png"),
        ("fuse", "a", "b", "-o", "c.png"),
        ("fuse", "a", "-o", "b.jpg"),
        ("fuse", "a", "-o", "b.ome.tif", "--compression", "gold"),
        ("fuse", "a.png", "-o", "a.png"),
        ("fuse", "a", "-o", "b.png", "--mask", "b.png"),
        ("models", "nobody"),
    ],
)
def test_usage_errors_are_one_line_and_exit_1(shell: Shell, arguments: tuple[str, ...]) -> None:
    answer = shell(*arguments)
    assert (answer.code, answer.out) == (1, "")
    assert answer.complaint


def test_help_and_version_succeed_on_standard_output(shell: Shell) -> None:
    assert "Usage" in shell("--help").out
    assert "--planes" in shell("fuse", "--help").out
    assert shell("--version").out.startswith("focusfuse 0.")


def test_a_fault_of_the_program_is_a_sentence_and_debug_shows_where(
    shell: Shell, stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("napari_focusfuse.readers.open_slide", broken)
    answer = shell("inspect", stack)
    assert answer.code == 1
    assert "ZeroDivisionError" in answer.complaint
    assert "Traceback" in shell("--debug", "inspect", stack).err
    monkeypatch.setenv("FOCUSFUSE_DEBUG", "1")
    assert "Traceback" in shell("inspect", stack).err


def test_interruption_exits_130(shell: Shell, stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_focusfuse.readers.open_slide", interrupted)
    answer = shell("inspect", stack)
    assert (answer.code, answer.complaint) == (130, "Interrupted.")


# --- inspect


def test_inspect_prints_one_object(stack: Path) -> None:
    answer = run_process("inspect", stack, "--json")
    with open_slide(stack) as slide:
        planes = slide.planes
    assert (answer.code, answer.err) == (0, "")
    assert answer.json == {
        "format": "tiff",
        "planes": [
            {"index": i, "name": plane.name, "z_um": pytest.approx(plane.z_um)}
            for i, plane in enumerate(planes)
        ],
        "zero": 2,
        "extended": None,
        "levels": [{"width": 128, "height": 96, "downsample": 1.0}],
        "mpp": [pytest.approx(0.25), pytest.approx(0.25)],
        "not_shown": [],
        "warnings": [],
    }
    steps = np.diff([plane["z_um"] for plane in answer.json["planes"]])
    assert steps == pytest.approx(2.7)


def test_inspect_says_null_where_a_folder_of_pictures_says_nothing(
    shell: Shell, tmp_path: Path
) -> None:
    for name in ("z1", "z2", "z10"):
        Image.fromarray(textured(1, 40, 50)[0]).save(tmp_path / f"{name}.png")
    answer = shell("inspect", tmp_path, "--json")
    assert answer.json["format"] == "folder"
    assert [plane["z_um"] for plane in answer.json["planes"]] == [None, None, None]
    assert answer.json["mpp"] is None
    assert answer.json["zero"] == 1
    assert shell("inspect", tmp_path, "--json", "--zero", "2").json["zero"] == 2


def test_inspect_tells_a_person_the_same(shell: Shell, stack: Path) -> None:
    answer = shell("inspect", stack)
    assert answer.code == 0
    for word in ("5 focus layers", "0.25 x 0.25 um", "-2", "+2", "128", "96"):
        assert word in answer.out


@pytest.mark.parametrize(
    "arguments", [("inspect", "{}", "--json"), ("methods",), ("models",), ("compare", "--help")]
)
def test_what_only_reads_loads_no_torch(stack: Path, arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from napari_focusfuse.cli.program import run; code = run(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    call = [sys.executable, "-c", code, *(argument.format(stack) for argument in arguments)]
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0


# --- fuse and mask


@pytest.mark.parametrize("planes", [("--planes=-1,0,1",), ("--planes", "-1,0,1"), ()])
def test_planes_in_either_form_and_by_default(
    shell: Shell, stack: Path, tmp_path: Path, planes: tuple[str, ...]
) -> None:
    out = tmp_path / "fused.png"
    answer = shell("fuse", stack, "-o", out, "--method", "argmax", *planes)
    assert answer.code == 0, answer.err
    assert "layers -1, 0, +1 of stack.ome.tif" in answer.out
    assert pixels(out).shape == (96, 128, 3)


def test_one_plane_of_a_selection_is_that_plane(shell: Shell, tmp_path: Path) -> None:
    planes = write_stack(tmp_path / "s.ome.tif")
    out = tmp_path / "one.png"
    for offset, index in (("0", 2), ("-2", 0), ("+1", 3)):
        answer = shell(
            "fuse", tmp_path / "s.ome.tif", "-o", out, "--method", "argmax", "--planes", offset,
            "--overwrite",
        )  # fmt: skip
        assert answer.code == 0, answer.err
        assert np.array_equal(pixels(out), planes[index])


def test_zero_moves_what_the_planes_are_counted_from(shell: Shell, tmp_path: Path) -> None:
    planes = write_stack(tmp_path / "s.ome.tif")
    out = tmp_path / "out.png"
    answer = shell(
        "fuse", tmp_path / "s.ome.tif", "-o", out, "--method", "argmax", "--zero", "1",
        "--planes", "1",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert np.array_equal(pixels(out), planes[2])


def test_region_is_cut_from_the_whole_fusion(shell: Shell, stack: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    arguments = ("--method", "pyramid", "--planes", "all")
    assert shell("fuse", stack, "-o", whole, *arguments).code == 0
    assert shell("fuse", stack, "-o", part, "--region", "10,20,30,40", *arguments).code == 0
    assert np.array_equal(pixels(part), pixels(whole)[10:40, 20:60])


def test_region_is_given_in_level_0_pixels_whatever_the_level(
    shell: Shell, stack: Path, tmp_path: Path
) -> None:
    pyramid, part = tmp_path / "big.ome.tif", tmp_path / "part.png"
    full = textured(1, 1200, 1400)[0]
    with tifffile.TiffWriter(pyramid, ome=True) as file:
        options = {"photometric": "rgb", "tile": (256, 256)}
        file.write(full, subifds=1, metadata={"axes": "YXS"}, **options)
        file.write(full[::2, ::2], subfiletype=1, **options)
    answer = shell(
        "fuse", pyramid, "-o", part, "--planes", "0", "--method", "argmax", "--level", "1",
        "--region", "100,200,300,400",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert np.array_equal(pixels(part), full[100:400:2, 200:600:2])


def test_fused_ome_tiff_is_a_slide_with_scale_and_provenance(
    shell: Shell, stack: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fused.ome.tif"
    answer = shell(
        "fuse", stack, "-o", out, "--method", "argmax", "--planes", "all", "--compression", "zstd"
    )
    assert answer.code == 0, answer.err
    assert f"wrote {out} (128 x 96)" in answer.out
    with open_slide(out) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25))
        assert len(slide.planes) == 1
    provenance = read_provenance(out)
    assert provenance is not None
    assert (provenance["method"], provenance["source"]) == ("argmax", "stack.ome.tif")
    assert [plane["offset"] for plane in provenance["planes"]] == [-2, -1, 0, 1, 2]
    assert "research use only" in provenance["use"]
    assert str(tmp_path) not in json.dumps(provenance)


def test_several_slides_go_to_a_folder_and_a_bad_one_does_not_stop_the_others(
    shell: Shell, tmp_path: Path
) -> None:
    for name in ("a.ome.tif", "c.ome.tif"):
        write_stack(tmp_path / name)
    (tmp_path / "b.ome.tif").write_bytes(b"no slide")
    slides = [tmp_path / f"{letter}.ome.tif" for letter in "abc"]
    answer = shell("fuse", *slides, "-o", tmp_path / "out", "--method", "argmax")
    assert answer.code == 2
    assert "b.ome.tif" in answer.err
    assert "1 of 3 slides failed" in answer.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.fused.ome.tif",
        "a.fused.ome.tif.json",
        "c.fused.ome.tif",
        "c.fused.ome.tif.json",
    ]


def test_what_exists_is_replaced_only_when_told(shell: Shell, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "fused.png"
    out.write_text("precious")
    arguments = ("fuse", stack, "-o", out, "--method", "argmax")
    answer = shell(*arguments)
    assert answer.code == 5
    assert "--overwrite" in answer.complaint or "exists" in answer.complaint
    assert out.read_text() == "precious"
    assert shell(*arguments, "--overwrite").code == 0
    assert pixels(out).shape == (96, 128, 3)


def test_too_large_a_piece_is_refused_before_a_pixel_is_read(
    shell: Shell, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_focusfuse.cli.fusing.MAX_PIXELS", 96 * 128 - 1)
    answer = shell("fuse", stack, "-o", tmp_path / "o.png", "--method", "argmax")
    assert answer.code == 4
    assert "128 x 96" in answer.complaint
    assert "--region" in answer.complaint


# --- methods and models


def test_methods_says_what_the_tiler_knows_of_each(shell: Shell) -> None:
    answer = shell("methods")
    assert answer.code == 0
    rows = {line.split()[0]: line for line in answer.out.splitlines()[1:]}
    assert {"argmax", "pyramid"} <= set(rows)
    for word in ("selection", "any number", "exact"):
        assert word in rows["argmax"]


def test_every_method_says_when_to_choose_it_in_a_line(shell: Shell) -> None:
    answer = shell("methods")
    for info in available_methods():
        assert 20 < len(info.advice) < 95
        assert info.advice in answer.out


def test_every_model_has_a_card_to_print(shell: Shell) -> None:
    from napari_focusfuse.model_card import shipped_models

    listed = shell("models")
    assert listed.code == 0
    for name in shipped_models():
        assert name in listed.out
        card = shell("models", name)
        assert card.code == 0
        for field in ("training:", "scores:", "limits:", "licence"):
            assert field in card.out


# --- compare


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    first, second = textured(2, 120, 140)
    Image.fromarray(first).save(tmp_path / "image.png")
    Image.fromarray(second).save(tmp_path / "reference.png")
    return tmp_path / "image.png", tmp_path / "reference.png"


def test_compare_prints_one_object(pair: tuple[Path, Path]) -> None:
    answer = run_process("compare", *pair, "--json")
    assert (answer.code, answer.err) == (0, "")
    image, reference = (pixels(path) for path in pair)
    expected = score(image, reference)
    assert answer.json == {
        "ssim": pytest.approx(expected["SSIM-paper"]),
        "cc": pytest.approx(expected["CC"]),
        "q_mi": pytest.approx(expected["Q_MI"]),
        "psnr": pytest.approx(expected["PSNR"]),
        "variants": {name: pytest.approx(value) for name, value in expected.items()},
    }


def test_an_image_equals_itself_and_infinity_is_null_in_json(
    shell: Shell, pair: tuple[Path, Path]
) -> None:
    answer = shell("compare", pair[0], pair[0], "--json")
    assert answer.json["ssim"] == pytest.approx(1)
    assert answer.json["cc"] == pytest.approx(1)
    assert answer.json["psnr"] is None
    json.loads(answer.out, parse_constant=pytest.fail)


def test_compare_names_every_variant_to_a_person(shell: Shell, pair: tuple[Path, Path]) -> None:
    answer = shell("compare", *pair)
    assert answer.code == 0
    for name in ("SSIM-paper", "SSIM-sk", "CC", "Q_MI", "PSNR"):
        assert name in answer.out


def test_unequal_sizes_need_register(shell: Shell, tmp_path: Path) -> None:
    full = textured(1, 300, 320)[0]
    Image.fromarray(full).save(tmp_path / "full.png")
    Image.fromarray(full[20:276, 30:286]).save(tmp_path / "part.png")
    answer = shell("compare", tmp_path / "part.png", tmp_path / "full.png")
    assert answer.code == 4
    assert "--register" in answer.complaint
    registered = shell(
        "compare", tmp_path / "part.png", tmp_path / "full.png", "--register", "--json"
    )
    assert registered.code == 0, registered.err
    assert registered.json["ssim"] == pytest.approx(1)


# --- blur models


def test_the_mask_is_made_by_the_model_that_is_named(
    shell: Shell, stack: Path, tmp_path: Path
) -> None:
    default = shell("mask", stack, "-o", tmp_path / "default.png", "--device", "cpu")
    assert default.code == 0, default.err
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(shipped_models()["small-blur"].read_bytes())
    for name in ("small-blur", copy):
        out = tmp_path / f"{Path(name).stem}-mask.png"
        answer = shell("mask", stack, "-o", out, "--blur-model", name, "--device", "cpu")
        assert answer.code == 0, answer.err
        assert (pixels(out) == pixels(tmp_path / "default.png")).all()
    for name, message in (("gold", "There is no model"), ("swift-single", "marks no blurred")):
        answer = shell("mask", stack, "-o", tmp_path / "no.png", "--blur-model", name)
        assert answer.code in (1, 4)
        assert message in answer.complaint


# --- demo


@pytest.mark.slow
def test_demo_scores_and_writes_what_it_says(shell: Shell, tmp_path: Path) -> None:
    answer = shell("demo", "--out", tmp_path / "demo", "--no-window")
    assert answer.code == 0, answer.err
    assert "layer 0, untouched" in answer.out
    lines = [line for line in answer.out.splitlines() if line.startswith("wrote ")]
    written = {Path(line.removeprefix("wrote ")) for line in lines}
    assert written == set((tmp_path / "demo").iterdir())
    pyramids = [path for path in written if path.name.endswith(".ome.tif")]
    assert pyramids
    for path in pyramids:
        with open_slide(path) as slide:
            assert len(slide.levels) > 1
    masks = [path for path in written if path.name == "layer-0-blur-mask.png"]
    assert bool(masks) == (blur_detector_info() is not None)


def test_demo_says_why_it_opens_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_focusfuse.cli.window import why_no_window

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert why_no_window() == "there is no display"
    monkeypatch.setenv("DISPLAY", ":0")
    assert why_no_window() is None or "toolkit" in str(why_no_window())
