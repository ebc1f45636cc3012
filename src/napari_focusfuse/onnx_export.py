"""Models as ONNX files, for programs without PyTorch.

A graph takes float32 pictures in [0, 1] of any number and size, as long as height and width are
multiples of the card's ``multiple_of`` (of both networks, where a blur model is inside), and does
what the network does without tiles.  What is written was run beside the original first.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_focusfuse.fusion.catalogue import blur_companion
from napari_focusfuse.model_card import CARD_KEY, ModelCard, ModelError
from napari_focusfuse.models.blur_model import BlurModel
from napari_focusfuse.models.generator import stack_with_masks
from napari_focusfuse.models.liu import LiuClassifier
from napari_focusfuse.models.small_blur import SmallBlurModel
from napari_focusfuse.models.swift import SwiftGenerator
from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.weights import load_model, write_whole

BLUR_CARD_KEY = "focusfuse_blur_model"
"""Metadata that holds the card of the blur model inside a graph; its own is ``CARD_KEY``."""
TOLERANCE = 1e-4
"""Largest mean difference from PyTorch's result, in units of white; hundredths of a grey level."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_SIDES = (5, 6)
"""Height and width of what a graph is traced with, in steps of its multiple."""
_OTHER_SIDES = (7, 4)
"""The same for the trial, so that no size of the trace can have stayed in the graph."""


class OnnxExportError(FocusFuseError, RuntimeError):
    """A model cannot be exported here, or its graph does not do what it does."""


@dataclass(frozen=True)
class OnnxExport:
    """What was written."""

    card: ModelCard
    inputs: tuple[str, ...]
    """What the graph takes, one line each."""
    outputs: tuple[str, ...]
    """What it gives, one line each."""
    difference: float
    """Largest difference found between ONNX Runtime's and PyTorch's results, in units of white."""


def export_onnx(model: Path, target: Path) -> OnnxExport:
    """Export a model file, and its blur model with it if it takes masks.

    Parameters
    ----------
    model
        A model file of ours.
    target
        File to write; one of that name is replaced whole or not at all.

    Raises
    ------
    ModelError
        If the model cannot be read, or is not one that works alone.
    OnnxExportError
        If the extra ``onnx`` is not installed, or the graph's results differ from the network's.
    ModelOutputError
        If the file cannot be written.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise OnnxExportError(
            f"Exporting needs {' and '.join(missing)}, which this installation lacks: "
            "pip install 'napari-focusfuse[onnx]'."
        )
    network, card = load_model(model)
    companion = blur_companion(model, card)
    blur, blur_card = (None, None) if companion is None else load_model(companion)
    graph = _graph(model, network, card, blur)
    content = _traced(graph, {CARD_KEY: card, BLUR_CARD_KEY: blur_card})
    difference = _compare(graph, content, model)
    write_whole(target, content)
    lines = ([f"{name}: {text}" for name, text in part.items()] for part in graph.ports)
    inputs, outputs = (tuple(part) for part in lines)
    return OnnxExport(card, inputs, outputs, difference)


@dataclass(frozen=True)
class _Graph:
    """A network as it is exported: tensors in, tensors out."""

    module: nn.Module
    planes: int
    """Focal planes of its first input."""
    multiple_of: int
    inputs: Mapping[str, str]
    """Names, and what they are."""
    outputs: Mapping[str, str]

    @property
    def ports(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        return self.inputs, self.outputs

    def example(self, batch: int, sides: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return noise for every input."""
        rng = torch.Generator().manual_seed(0)
        height, width = (self.multiple_of * side for side in sides)
        planes = torch.rand(batch, 3 * self.planes, height, width, generator=rng)
        told = torch.randn(1, self.planes, generator=rng)
        return (planes, told) if len(self.inputs) == 2 else (planes,)

    @property
    def shapes(self) -> tuple[dict[int, Any], ...]:
        """Which sizes are free, as :func:`torch.export.export` takes it."""
        dim = torch.export.Dim
        rows, columns = dim("rows", min=2, max=1 << 16), dim("columns", min=2, max=1 << 16)
        free = {0: dim("batch"), 2: self.multiple_of * rows, 3: self.multiple_of * columns}
        return (free, {}) if len(self.inputs) == 2 else (free,)


class _Restoring(nn.Module):
    """A swift generator whose error is one of the mean, not its logarithm."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor, sampling: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network(planes, sampling)
        return found.fused.clamp(0, 1), found.log_error.exp()


class _Masked(nn.Module):
    """A generator that takes masks, with the blur model that makes them."""

    def __init__(self, network: nn.Module, blur: nn.Module, planes: int) -> None:
        super().__init__()
        self.network, self.blur, self.planes = network, blur, planes

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        stacked = stack_with_masks(planes.unflatten(1, (self.planes, 3)), self.blur)
        return self.network(stacked).clamp(0, 1), stacked[:, 3::4]


class _Fusing(nn.Module):
    """Any other generator."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor) -> tuple[Tensor]:
        return (self.network(planes).clamp(0, 1),)


class _Detecting(_Fusing):
    """A blur model that says probabilities instead of logits."""

    def forward(self, planes: Tensor) -> tuple[Tensor]:
        return (self.network(planes).softmax(dim=1)[:, 1:2],)


_FUSED = {"fused": "(batch, 3, height, width), RGB in [0, 1]"}


def _graph(model: Path, network: nn.Module, card: ModelCard, blur: nn.Module | None) -> _Graph:
    """Return how a network is exported.

    Raises
    ------
    ModelError
        If what it computes is not what the model is for.
    """
    count = len(card.plane_offsets)
    inputs = {
        "planes": f"(batch, {3 * count}, height, width), in [0, 1]: "
        f"{'the plane' if count == 1 else f'{count} planes by increasing z, each'} in RGB"
    }
    if isinstance(network, LiuClassifier):
        raise ModelError(
            f"{model.name} only scores patches, and what fuses by its scores is no network; "
            "choose another model to export."
        )
    if isinstance(network, SwiftGenerator):
        gaps = "".join(f"log2(um from plane {z} to {z + 1} / 2), " for z in range(count - 1))
        inputs["sampling"] = (
            f"(1, {count}): {gaps}log2(um per pixel / 0.25); between -3 and 3; 0 where unknown"
        )
        error = "(batch, 1, height, width): mean absolute error to expect, 1 being white"
        if card.error_factor is not None:
            error += f"; 90 % of the errors are below {card.error_factor:g} times as much"
        outputs = {**_FUSED, "error": error}
        return _Graph(_Restoring(network), count, card.multiple_of, inputs, outputs)
    if isinstance(network, BlurModel | SmallBlurModel):
        outputs = {"blurred": "(batch, 1, height, width): probability of being out of focus"}
        return _Graph(_Detecting(network), count, card.multiple_of, inputs, outputs)
    if blur is None:
        return _Graph(_Fusing(network), count, card.multiple_of, inputs, _FUSED)
    outputs = {**_FUSED, "blurred": f"(batch, {count}, height, width): each plane's blur mask"}
    multiple_of = math.lcm(card.multiple_of, int(blur.multiple_of))  # type: ignore[arg-type]
    return _Graph(_Masked(network, blur, count), count, multiple_of, inputs, outputs)


def _traced(graph: _Graph, cards: Mapping[str, ModelCard | None]) -> bytes:
    """Return the ONNX file of a graph, cards in its metadata."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            graph.example(2, _SIDES),  # of one, the batch would be taken for a constant
            dynamo=True,
            dynamic_shapes=graph.shapes,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            verbose=False,
        )
    assert program is not None  # it writes no file itself
    model = program.model
    model.producer_name, model.producer_version = "napari-focusfuse", version("napari-focusfuse")
    said = (f"{name}: {text}." for part in graph.ports for name, text in part.items())
    model.doc_string = f"Height and width: multiples of {graph.multiple_of}. {' '.join(said)}"
    for key, card in cards.items():
        if card is not None:
            model.metadata_props[key] = card.to_json()
    content: bytes = program.model_proto.SerializeToString()
    return content


def _compare(graph: _Graph, content: bytes, model: Path) -> float:
    """Return the largest difference between a graph's and its network's results.

    Raises
    ------
    OnnxExportError
        If they differ by more than rounding.
    """
    import onnxruntime

    example = graph.example(1, _OTHER_SIDES)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    fed = {name: value.numpy() for name, value in zip(graph.inputs, example, strict=True)}
    with torch.inference_mode():
        wanted = graph.module(*example)
    found = session.run(list(graph.outputs), fed)
    off = [(torch.from_numpy(f) - w).abs() for f, w in zip(found, wanted, strict=True)]
    # The mean counts: where two planes are as good as equally sharp, rounding decides a pixel.
    if not all(float(part.mean()) <= TOLERANCE for part in off):
        raise OnnxExportError(
            f"The ONNX graph of {model.name} does not compute what the model does, so it was not "
            "written; report this with your versions of torch, onnxscript and onnxruntime."
        )
    return max(float(part.max()) for part in off)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on other packages and on its own code to itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
