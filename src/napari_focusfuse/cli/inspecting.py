"""``focusfuse inspect``: what a slide holds, structure only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_focusfuse.slide import FocalPlane, Slide

from .options import JsonOption, SlideArgument, ZeroOption
from .terminal import print_json, print_table, say


def inspect(slide: SlideArgument, zero: ZeroOption = None, as_json: JsonOption = False) -> None:
    """Say what a slide holds: focus layers, levels, pixel size, and what is not shown."""
    from napari_focusfuse.readers import open_slide

    with open_slide(slide, zero=zero) as opened:
        if as_json:
            print_json(describe(opened))
        else:
            _print(opened)


def describe(slide: Slide) -> dict[str, Any]:
    """Return what ``inspect --json`` prints; pairs are [y, x]."""
    structure = slide.structure()
    return {
        "format": slide.format,
        "planes": [_plane(plane) for plane in slide.planes],
        "zero": slide.zero,
        "extended": None if slide.extended is None else _plane(slide.extended),
        "levels": [
            {
                "width": level.width,
                "height": level.height,
                "downsample": float(max(level.downsample)),
            }
            for level in slide.levels
        ],
        "mpp": None if slide.mpp is None else [float(value) for value in slide.mpp],
        "not_shown": list(slide.not_shown),
        "warnings": list(slide.warnings),
        **({"structure": dict(structure)} if structure else {}),
    }


def _plane(plane: FocalPlane) -> dict[str, Any]:
    return {"index": plane.index, "name": plane.name, "z_um": plane.z_um}


def _print(slide: Slide) -> None:
    size = "unknown" if slide.mpp is None else "{:.4g} x {:.4g} um".format(*slide.mpp[::-1])
    extended = "none" if slide.extended is None else slide.extended.name
    # No name of the file: it is often the name of a patient, and this is pasted into reports.
    say(f"{slide.format}: {len(slide.planes)} focus layers")
    say(f"pixel size (x, y): {size}; extended focus: {extended}")
    say("")
    print_table(
        ("offset", "index", "name", "z (um)"),
        [
            (
                f"{slide.offset(plane):+d}" if slide.offset(plane) else "0",
                str(plane.index),
                plane.name,
                "?" if plane.z_um is None else f"{plane.z_um:g}",
            )
            for plane in slide.planes
        ],
    )
    say("")
    print_table(
        ("level", "width", "height", "downsample"),
        [
            (str(number), str(level.width), str(level.height), f"{max(level.downsample):g}")
            for number, level in enumerate(slide.levels)
        ],
    )
    for sentence in slide.warnings:
        say(f"warning: {sentence}")
    for sentence in slide.not_shown:
        say(f"not shown: {sentence}")
    for part, value in slide.structure().items():
        _print_part(part, value)


def _print_part(name: str, value: object) -> None:
    """Print a part of a slide's structure: one line, or one for each of its items."""
    if isinstance(value, Mapping):
        value = [f"{key} = {item}" for key, item in value.items()]
    if not isinstance(value, list):
        say(f"{name}: {value}")
        return
    say(f"{name}:" if value else f"{name}: none")
    for item in value:
        say(f"  {item}")
