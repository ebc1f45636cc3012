"""Networks as fusion methods and as blur detectors: NumPy outside, torch inside."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_focusfuse.model_card import ModelError
from napari_focusfuse.models.generator import stack_with_masks
from napari_focusfuse.models.swift import Restoration, SwiftGenerator
from napari_focusfuse.sampling import Sampling
from napari_focusfuse.weights import load_model

from .catalogue import blur_companion
from .inference import inferred_share
from .method import (
    ERROR,
    INFERRED,
    MASK,
    Float32Image,
    FusionMethod,
    MethodInfo,
    PixelMapper,
)


class NeuralMethod(FusionMethod):
    """A generator.  Its ``info.settings["dtype"]`` says in which precision its convolutions run.

    By default that is bfloat16 where the device is faster in it, else float32.  The two
    differ by about one step of 1/255 at most; each by itself is exactly repeatable on a CPU.
    """

    def __init__(
        self,
        info: MethodInfo,
        network: nn.Module,
        blur: nn.Module | None = None,
        device: str = "cpu",
        dtype: str | None = None,
        error_factor: float | None = None,
    ) -> None:
        self.device = device
        self._dtype = dtype or fast_dtype(device)
        self.info = replace(info, settings={**info.settings, "dtype": self._dtype})
        self._error_factor = 1.0 if error_factor is None else error_factor
        self._network = _ready(network, device)
        self._blur = None if blur is None else _ready(blur, device)
        self._sampling: Tensor | None = None

    @property
    def expects_error(self) -> bool:
        """Whether the network says how far it expects to be off."""
        return isinstance(self._network, SwiftGenerator)

    def at(self, sampling: Sampling) -> NeuralMethod:
        """Return this method, its network told how planes and pixels lie if it wants to know."""
        if not isinstance(self._network, SwiftGenerator):
            return self
        told = copy(self)
        told._sampling = torch.tensor([sampling.octaves()], device=self.device)
        known = {"told_gaps_um": ", ".join(_said(gap) for gap in sampling.gaps_um)}
        known["told_mpp"] = _said(sampling.mpp)
        told.info = replace(self.info, settings={**self.info.settings, **known})
        return told

    def showing(self, names: Collection[str]) -> NeuralMethod:
        """Return this method making the maps of these names that it offers."""
        shows = copy(self)
        shows.maps = tuple(about for about in self.info.offers if about.name in names)
        return shows

    def compute(self, stacks: Float32Image) -> Float32Image:
        """Fuse (B, Z, Y, X, 3) stacks; see :meth:`FusionMethod.__call__`."""
        return _run(self._compute, stacks, self.device)

    def _compute(self, stacks: Tensor) -> Tensor:
        """Return the (B, Y, X, 3 + maps) picture and maps."""
        found = self._infer(stacks)
        makers = {INFERRED.name: self._inferred, ERROR.name: self._error}
        maps = [makers[about.name](stacks, found)[..., None] for about in self.maps]
        return torch.cat([found[..., :3], *maps], dim=-1)

    def _inferred(self, stacks: Tensor, found: Tensor) -> Tensor:
        fused = found[..., :3].movedim(-1, 1).clamp(0, 1)
        return inferred_share(stacks.movedim(-1, 2), fused)

    def _error(self, stacks: Tensor, found: Tensor) -> Tensor:
        return found[..., 3] * (255 * self._error_factor / ERROR.high)

    def infer(self, stacks: Float32Image) -> Float32Image:
        """Fuse, and say how far the result may be off, where the network expects an error.

        Returns
        -------
        (B, Y, X, 3 or 4) float32 array: red, green, blue, neither checked nor clipped, and the mean
        absolute error to expect of them, in units of white
        """
        return _run(self._infer, stacks, self.device)

    def selected(self, stacks: Float32Image) -> Float32Image:
        """Return what of the (B, Y, X, 3) result is a blend of the planes, with nothing corrected.

        Raises
        ------
        TypeError
            If the network does not tell the two apart; those that expect an error do.
        """
        return _run(self._select, stacks, self.device)

    def _select(self, stacks: Tensor) -> Tensor:
        found = self._restored(stacks)
        if not isinstance(found, Restoration):
            raise TypeError(f"{self.info.name} does not say what it selected")
        return (found.fused - found.correction).float().movedim(1, -1)

    def _infer(self, stacks: Tensor) -> Tensor:
        found = self._restored(stacks)
        if not isinstance(found, Restoration):
            return found.float().movedim(1, -1)
        both = torch.cat([found.fused.float(), found.log_error.float().exp()], dim=1)
        return both.movedim(1, -1)

    def _restored(self, stacks: Tensor) -> Tensor | Restoration:
        """Return what the network makes of (B, Z, Y, X, 3) stacks."""
        planes = stacks.movedim(-1, 2)
        with _precision(self.device, self._dtype):
            # Z times C channels, each plane's together.
            if self._blur is None:
                stacked = planes.flatten(1, 2)
            else:
                stacked = stack_with_masks(planes, self._blur)
            stacked = stacked.contiguous(memory_format=torch.channels_last)
            found: Tensor | Restoration
            if isinstance(self._network, SwiftGenerator):
                told = None if self._sampling is None else self._sampling.expand(len(stacks), -1)
                found = self._network(stacked, told)
            else:
                found = self._network(stacked)
        return found


class BlurDetector(PixelMapper):
    """Says at each pixel how likely layer 0 is out of focus there."""

    maps = (MASK,)
    takes = "centre"

    def __init__(
        self, info: MethodInfo, network: nn.Module, device: str = "cpu", dtype: str | None = None
    ) -> None:
        self.device = device
        self._dtype = dtype or fast_dtype(device)
        self.info = replace(info, settings={**info.settings, "dtype": self._dtype})
        self._network = _ready(network, device)

    def compute(self, stacks: Float32Image) -> Float32Image:
        """Classify (B, 1, Y, X, 3) stacks; see :meth:`PixelMapper.__call__`."""
        return _run(self._detect, stacks[:, 0], self.device)

    def _detect(self, images: Tensor) -> Tensor:
        """Classify (B, Y, X, 3) to (B, Y, X, 1)."""
        with _precision(self.device, self._dtype):
            return _probability(self._network(images.movedim(-1, 1)))[..., None]


def load_neural(info: MethodInfo, device: str = "cpu", dtype: str | None = None) -> NeuralMethod:
    """Load a fusion model, and the blur model whose masks it takes.

    Raises
    ------
    ModelError
        If a file is damaged or changed since ``info`` was made, or a blur model is missing.
    """
    path = _weights(info)
    network, card = load_model(path)
    if card.sha256 != info.model_hash:
        raise ModelError(f"{path.name} has changed since it was chosen; choose it again.")
    companion = blur_companion(path, card)
    blur = None if companion is None else load_model(companion)[0]
    if getattr(network.config, "mask", False) != (blur is not None):
        raise ModelError(
            f"{path.name} contradicts itself: its network must take blur masks if and only if its "
            "card names a blur model; choose another."
        )
    return NeuralMethod(info, network, blur, device, dtype, card.error_factor)


def load_detector(info: MethodInfo, device: str = "cpu", dtype: str | None = None) -> BlurDetector:
    """Load a blur detector.

    Raises
    ------
    ModelError
        If its file is damaged.
    """
    return BlurDetector(info, load_model(_weights(info))[0], device, dtype)


def fast_dtype(device: str) -> str:
    """Return ``"bfloat16"`` where the device is faster in it, else ``"float32"``.

    Of processors that is not said by their having instructions for it: Intel's vector units take
    half as long again for bfloat16 as for float32, AMD's half the time, and matrix units (AMX) pay
    everywhere.  ``benchmarks/models.py`` measures it.
    """
    if device == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device == "cpu":
        able = torch.cpu.get_capabilities()
        intel = "Intel" in str(able.get("cpu_name"))
        faster = bool(able.get("amx_bf16") or (able.get("avx512_bf16") and not intel))
    else:
        faster = False
    return "bfloat16" if faster else "float32"


def _said(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"


def _weights(info: MethodInfo) -> Path:
    if info.weights is None:
        raise ValueError(f"{info.name} has no weights to load")
    return info.weights


def _ready(network: nn.Module, device: str) -> nn.Module:
    # channels_last: a third faster on CPUs, and what tensor cores want.
    moved: Any = network.to(device).eval()
    return moved.to(memory_format=torch.channels_last)


def _precision(device: str, dtype: str) -> torch.autocast:
    low = dtype != "float32"
    return torch.autocast(device, dtype=torch.bfloat16 if low else None, enabled=low)


def _probability(logits: Tensor) -> Tensor:
    """Return (B, Y, X) P(blurred) of (B, 2, Y, X) logits, in float32."""
    return logits.float().softmax(dim=1)[:, 1]


def _run(function: Callable[[Tensor], Tensor], batch: Float32Image, device: str) -> Float32Image:
    """Call a function of tensors on a batch of arrays."""
    # On a CPU one item at a time: no faster together, and a pixel must not depend on its tile's
    # company, which may make the library choose another algorithm.
    step = 1 if device == "cpu" else len(batch)
    with torch.inference_mode():
        parts = [
            function(torch.from_numpy(batch[first : first + step]).to(device)).cpu().numpy()
            for first in range(0, len(batch), step)
        ]
    return np.concatenate(parts)
