"""``focusfuse export`` and ``focusfuse convert``: models to other programs, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_focusfuse.writer import check_output

from .options import OverwriteOption, model_file
from .terminal import say


def export(
    model: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A model's name, or its file.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.onnx")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model as ONNX, for programs without PyTorch; its card goes along as metadata.

    A blur model whose masks it takes goes inside.
    """
    path = model_file(model)
    check_output(out, overwrite=overwrite, suffixes=(".onnx",))
    from napari_focusfuse.onnx_export import export_onnx

    made = export_onnx(path, out)
    say(f"wrote {out} ({made.card.name}, {out.stat().st_size / 1e6:.1f} MB)")
    for title, lines in (("takes", made.inputs), ("gives", made.outputs)):
        for line in lines:
            say(f"{title} {line}")
    say(f"ONNX Runtime differs from PyTorch by {made.difference * 255:.2g} grey levels at most")


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE.pt", help="Weights that torch.save wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.safetensors")],
    card: Annotated[
        Path,
        typer.Option(
            "--card",
            metavar="CARD.json",
            help="What the model is: name and architecture, other fields of a card as known.",
        ),
    ],
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a model file of weights that others trained; only tensors are read, no code is run."""
    check_output(out, overwrite=overwrite, suffixes=(".safetensors",))
    from napari_focusfuse.foreign_weights import convert as convert_weights

    made = convert_weights(file, out, card, half=half)
    say(f"wrote {out} ({made.name}: {made.title})")
