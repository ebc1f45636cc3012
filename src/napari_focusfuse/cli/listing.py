"""``focusfuse methods`` and ``focusfuse models``: what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import model_file
from .terminal import print_table, say

if TYPE_CHECKING:
    from napari_focusfuse.model_card import ModelCard


def methods() -> None:
    """List the fusion methods, classical ones and models."""
    from napari_focusfuse.fusion.catalogue import available_methods

    print_table(
        ("name", "what it is", "kind", "focus layers", "reach (px)", "tiling", "when to choose it"),
        [
            (
                info.name,
                info.title,
                info.kind,
                "any number" if info.plane_offsets is None else _offsets(info.plane_offsets),
                str(info.halo),
                info.tiling,
                info.advice,
            )
            for info in available_methods()
        ],
    )


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A model's name, or its file.")
    ] = None,
) -> None:
    """List the models, or print the card of one."""
    from napari_focusfuse.model_card import read_card, shipped_models

    if name is None:
        _list([read_card(path) for path in shipped_models().values()])
    else:
        _print(read_card(model_file(name)))


def _list(cards: list[ModelCard]) -> None:
    if not cards:
        say("No model is installed; the classical methods need none: see focusfuse methods.")
        return
    print_table(
        ("name", "what it is", "focus layers", "um/px", "z step (um)"),
        [
            (
                card.name,
                card.title,
                _offsets(card.plane_offsets),
                _or_any(card.mpp),
                _or_any(card.z_step_um),
            )
            for card in cards
        ],
    )


def _print(card: ModelCard) -> None:
    for field in fields(card):
        _print_value(field.name, getattr(card, field.name), "")


def _print_value(name: str, value: Any, indent: str) -> None:
    if isinstance(value, Mapping):
        say(f"{indent}{name}:")
        for key, inner in value.items():
            _print_value(str(key), inner, f"{indent}  ")
    elif isinstance(value, tuple) and value and isinstance(value[0], str):
        say(f"{indent}{name}:")
        for sentence in value:
            say(f"{indent}  - {sentence}")
    else:
        text = ", ".join(str(item) for item in value) if isinstance(value, (tuple, list)) else value
        say(f"{indent}{name}: {'-' if value is None else text}")


def _offsets(offsets: tuple[int, ...]) -> str:
    return ", ".join(f"{offset:+d}" if offset else "0" for offset in offsets)


def _or_any(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
