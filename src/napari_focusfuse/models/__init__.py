"""The networks, and the one door through which a model file's configuration becomes a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from torch import nn

from napari_focusfuse.model_card import ModelError

from .blur_model import BlurConfig, BlurModel
from .fusiongan import FusionGanConfig, FusionGanGenerator
from .generator import Generator, GeneratorConfig
from .liu import LiuClassifier, LiuConfig
from .pix2pix import Pix2PixConfig, Pix2PixGenerator
from .small_blur import SmallBlurConfig, SmallBlurModel
from .srgan import SrGanConfig, SrGanGenerator
from .swift import SwiftConfig, SwiftGenerator

Settings = TypeVar("Settings")
"""A configuration class: a frozen dataclass of integers, switches and choices."""

_ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "generator": (Generator, GeneratorConfig),
    "blur": (BlurModel, BlurConfig),
    "swift": (SwiftGenerator, SwiftConfig),
    "small-blur": (SmallBlurModel, SmallBlurConfig),
    "fusiongan": (FusionGanGenerator, FusionGanConfig),
    "pix2pix": (Pix2PixGenerator, Pix2PixConfig),
    "srgan": (SrGanGenerator, SrGanConfig),
    "liu": (LiuClassifier, LiuConfig),
}

_LIMITS = {
    "planes": (1, 31),
    "width": (4, 256),
    "half_blocks": (0, 16),
    "quarter_blocks": (0, 16),
    "eighth_blocks": (0, 32),
    "blocks": (0, 32),
    "levels": (2, 8),
}
"""Smallest and largest value of each integer setting: no file may take the machine's memory."""


def build(architecture: str, config: Mapping[str, object]) -> nn.Module:
    """Make a network with fresh weights.

    Parameters
    ----------
    architecture
        ``"generator"`` and ``"blur"`` (the paper's), ``"swift"``, ``"small-blur"``, or one of the
        networks to compare with: ``"fusiongan"``, ``"pix2pix"``, ``"srgan"`` and ``"liu"``.
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
    module: nn.Module = network(read_settings(settings, config, f"architecture {architecture!r}"))
    return module


def read_settings(settings: type[Settings], config: Mapping[str, object], owner: str) -> Settings:
    """Make a network's settings from values nobody vouches for.

    Parameters
    ----------
    settings
        Its configuration class.
    config
        Some of the class's fields; others keep their defaults.
    owner
        What an error calls the network, such as ``"architecture 'swift'"``.

    Raises
    ------
    ModelError
        If a field is unknown, or a value is impossible.
    """
    kinds = get_type_hints(settings)
    for name, value in config.items():
        if name not in kinds:
            raise ModelError(f"The {owner} has no setting {name!r}; it has {', '.join(kinds)}.")
        if not _possible(name, value, kinds[name]):
            raise ModelError(
                f"The setting {name} of the {owner} cannot be {value!r:.80}; "
                f"give {_wanted(name, kinds[name])}."
            )
    return settings(**config)


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
