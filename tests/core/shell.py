"""What the tests of the command line share: small slides as files, and a call of the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from napari_focusfuse.cli.program import run

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """What a call of the program gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The only line of the error, without the program's name."""
        warning = "focusfuse: warning:"
        lines = [line for line in self.err.splitlines() if not line.startswith(warning)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("focusfuse: ")
        assert "Traceback" not in self.err
        return lines[0].removeprefix("focusfuse: ")


class Shell:
    """Calls the program in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str | Path) -> Answer:
        self._capture.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        return Answer(code, out, err)


def run_process(*arguments: str | Path, **environment: str) -> Answer:
    """Call the program in a process of its own, as a shell does."""
    done = subprocess.run(
        [sys.executable, "-m", "napari_focusfuse.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def pixels(path: Path) -> UInt8:
    """Return the pixels of a PNG."""
    with Image.open(path) as image:
        return np.asarray(image)


def textured(planes: int, height: int, width: int, seed: int = 0) -> UInt8:
    """Return (planes, height, width, 3) noise that is sharpest in another part on each plane."""
    rng = np.random.default_rng(seed)
    sharp = rng.integers(0, 256, (height, width, 3)).astype(np.float64)
    dull = sharp + np.roll(sharp, 1, axis=0)
    dull = (dull + np.roll(dull, 1, axis=1)) / 4
    stack = np.repeat(dull[None], planes, axis=0)
    for plane, columns in enumerate(np.array_split(np.arange(width), planes)):
        stack[plane][:, columns] = sharp[:, columns]
    return np.rint(stack).astype(np.uint8)


def write_stack(
    path: Path, planes: int = 5, height: int = 96, width: int = 128, z_step_um: float = 2.7
) -> UInt8:
    """Write an OME-TIFF stack of focus layers at 0.25 um per pixel; return its pixels."""
    stack = textured(planes, height, width)
    metadata = {
        "axes": "ZYXS" if planes > 1 else "YXS",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeYUnit": "µm",
    }
    if planes > 1:
        metadata |= {"PhysicalSizeZ": z_step_um, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(
        path,
        stack if planes > 1 else stack[0],
        photometric="rgb",
        tile=(64, 64),
        metadata=metadata,
        ome=True,
    )
    return stack
