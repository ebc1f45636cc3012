"""What the options' texts mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_focusfuse.model_card import shipped_models
from napari_focusfuse.slide import FocusFuseError, Region

if TYPE_CHECKING:
    from napari_focusfuse.fusion.planes import Wanted


class UsageError(FocusFuseError, ValueError):
    """An option's text is not understood."""

    exit_code = 1


SlideArgument = Annotated[
    Path, typer.Argument(metavar="SLIDE", help="A slide, or a folder with one image per layer.")
]
SlidesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="SLIDE", help="Slides, or folders with one image per layer."),
]
OutOption = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="OUT", help="A .ome.tif or .png file, or a folder."),
]
MethodOption = Annotated[
    str, typer.Option("--method", metavar="NAME", help="A method or model: see focusfuse methods.")
]
PlanesOption = Annotated[
    str | None,
    typer.Option(
        "--planes",
        metavar="0|-1,0,1|all",
        help="Focus layers, counted from layer 0 (default: 0 and those a step below and above).",
    ),
]
ZeroOption = Annotated[
    int | None,
    typer.Option(
        "--zero",
        metavar="N",
        help="Which plane is layer 0: index from the lowest (default: the slide's).",
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option("--region", metavar="Y,X,H,W", help="In pixels of level 0 (default: all of it)."),
]
LevelOption = Annotated[int, typer.Option("--level", metavar="N", help="Level of the pyramid.")]
CompressionOption = Annotated[
    str, typer.Option("--compression", metavar="jpeg|zstd|deflate", help="Of the OME-TIFF.")
]
BlurModelOption = Annotated[
    str | None,
    typer.Option(
        "--blur-model", metavar="NAME|FILE", help="What makes the mask (default: small-blur)."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps")]
MapsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="NAME=OUT", help="Write a map too: mask, depth or confidence. Repeat it."
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="How the work is cut: preset, block, threads, background. Repeat it.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="A dask scheduler whose workers fuse whole slides, such as tcp://node1:8786.",
    ),
]
RegisterOption = Annotated[
    bool,
    typer.Option(
        "--register", help="First move layers that lie shifted or scaled a little onto the middle."
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def model_file(name: str) -> Path:
    """Return the file of a shipped model, or the path of another.

    Raises
    ------
    UsageError
        If nothing shipped has this name, and it is no name of a file either.
    """
    shipped = shipped_models()
    if name not in shipped and not Path(name).suffix:
        names = ", ".join(shipped) or "none is installed"
        raise UsageError(f"There is no model {name!r} ({names}); or give a .safetensors file.")
    return shipped.get(name, Path(name))


def parse_planes(text: str | None) -> Wanted:
    """Return which focus layers ``--planes`` asks for.

    Raises
    ------
    UsageError
        If it is neither ``all`` nor whole numbers.
    """
    if text is None:
        return "three"
    if text.strip() == "all":
        return "all"
    try:
        offsets = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--planes {text!r} is not understood; give offsets from layer 0 such as 0 or -1,0,1, "
            "or all."
        ) from None
    return "one" if offsets == (0,) else offsets


def parse_region(text: str | None) -> Region | None:
    """Return the region ``--region`` asks for, in pixels of level 0, or None for all.

    Raises
    ------
    UsageError
        If it is not four whole numbers.
    """
    if text is None:
        return None
    try:
        y, x, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--region {text!r} is not understood; give top, left, height and width in pixels of "
            "level 0, such as 0,0,1024,1024."
        ) from None
    return Region(y, x, height, width)


@dataclass(frozen=True)
class Settings:
    """How work is cut; ``--set`` changes it."""

    preset: str | None = None
    """``"default"``, ``"paper"`` or ``"slide"``; None: by the size of what is fused."""
    block: int | None = None
    """Side in pixels of the squares that are finished one by one; None: one that suits."""
    threads: int | None = None
    """Threads that decode, and that encode; None: as many as suit the machine."""
    background: str | None = None
    """``"skip"`` (empty glass is not fused) or ``"keep"``; None: by the size."""


_PRESETS = ("default", "paper", "slide")
_BACKGROUNDS = ("skip", "keep")


def parse_settings(texts: Sequence[str]) -> Settings:
    """Return what ``--set KEY=VALUE`` asks for.

    Raises
    ------
    UsageError
        If a key or its value is unknown.
    """
    settings = Settings()
    for text in texts:
        key, _, value = text.partition("=")
        if key == "preset" and value in _PRESETS:
            settings = replace(settings, preset=value)
        elif key == "background" and value in _BACKGROUNDS:
            settings = replace(settings, background=value)
        elif key == "block" and value.isdecimal():
            settings = replace(settings, block=int(value))
        elif key == "threads" and value.isdecimal() and int(value) > 0:
            settings = replace(settings, threads=int(value))
        else:
            raise UsageError(
                f"--set {text!r} is not understood; give preset={'|'.join(_PRESETS)}, "
                f"background={'|'.join(_BACKGROUNDS)}, block=PIXELS or threads=NUMBER."
            )
    return settings


def parse_maps(texts: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """Return the file of each map that ``--map NAME=OUT`` asks for.

    Raises
    ------
    UsageError
        If there is no such map, or no file is named.
    """
    maps = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise UsageError(f"--map {text!r} is not understood; give NAME=OUT, as in mask=m.png.")
        if name not in names:
            raise UsageError(f"There is no map {name!r}; choose {', '.join(names)}.")
        maps[name] = Path(path)
    return maps
