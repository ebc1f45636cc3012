"""The networks, and the one door through which a model file's configuration becomes a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from napari_focusfuse.model_card import ModelError

from .blur_model import BlurConfig, BlurModel
from .generator import Generator, GeneratorConfig
from .small_blur import SmallBlurConfig, SmallBlurModel
from .swift import SwiftConfig, SwiftGenerator

_ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "generator": (Generator, GeneratorConfig),
    "blur": (BlurModel, BlurConfig),
    "swift": (SwiftGenerator, SwiftConfig),
    "small-blur": (SmallBlurModel, SmallBlurConfig),
}

_LIMITS = {
    "planes": (1, 31),
    "width": (4, 256),
    "half_blocks": (0, 16),
    "quarter_blocks": (0, 32),
    "blocks": (0, 32),
}
"""Smallest and largest value of each integer setting: no file may take the machine's memory."""


def build(architecture: str, config: Mapping[str, object]) -> nn.Module:
    """Make a network with fresh weights.

    Parameters
    ----------
    architecture
        ``"generator"`` and ``"blur"`` (the paper's), ``"swift"`` or ``"small-blur"``.
    config
        Fields of the configuration class beside the network; others keep their defaults.  It may
        come from a file nobody vouches for.

    Raises
    ------
    ModelError
        If the architecture or a field is unknown, or a value is impossible.
    """
    if architecture not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ModelError(f"The architecture {architecture!r} is unknown; known are {known}.")
    network, settings = _ARCHITECTURES[architecture]
    kinds = get_type_hints(settings)
    for name, value in config.items():
        if name not in kinds:
            raise ModelError(
                f"The architecture {architecture!r} has no setting {name!r}; it has "
                f"{', '.join(kinds)}."
            )
        if not _possible(name, value, kinds[name]):
            raise ModelError(
                f"The setting {name} of the architecture {architecture!r} cannot be {value!r:.80}; "
                f"give {_wanted(name, kinds[name])}."
            )
    module: nn.Module = network(settings(**config))
    return module


def _possible(name: str, value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind is int:
        low, high = _LIMITS[name]
        return type(value) is int and low <= value <= high
    return type(value) is kind


def _wanted(name: str, kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if kind is int:
        return "an integer from {} to {}".format(*_LIMITS[name])
    return "true or false"
