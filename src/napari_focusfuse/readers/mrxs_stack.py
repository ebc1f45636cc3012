"""The focal planes of a MIRAX slide, from its focus slots and what each of them stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_focusfuse.slide import FocalPlane

from .faults import damaged
from .mrxs_records import Records
from .mrxs_structure import FILTER, FocusSlot, Structure

_LEAST_PART = 2
"""Pixels of a part of an image; real slides stop at about 5."""


@dataclass(frozen=True)
class Stack:
    """What the slide shows, and what is to be said of the rest."""

    planes: tuple[FocalPlane, ...]
    extended: FocalPlane | None
    slots: Mapping[int, int]
    """Slot of each plane, by the plane's index."""
    zero: int | None
    levels: int
    warnings: tuple[str, ...]
    not_shown: tuple[str, ...]


def read_stack_of(
    path: Path, structure: Structure, records: Records, filters: Sequence[int]
) -> Stack:
    """Sort the focus slots that are stored into planes and the extended focus.

    Parameters
    ----------
    path
        For messages.
    structure, records
        The slide.
    filters
        Further filter levels with images of their own.

    Raises
    ------
    SlideError
        If no slot holds images of the full size.
    """
    full = [slot for slot in structure.slots if records.stored(slot.number, 0)]
    layers = [slot for slot in full if not slot.is_extended]
    fused = next((slot for slot in full if slot.is_extended), None)
    if not full:
        raise damaged(path, "it holds no image of the full size")
    if not layers and fused is not None:
        layers, fused = [fused], None
    layers, known = _ordered(layers)
    planes = tuple(
        FocalPlane(i, slot.name or "Plane 1", slot.z_um if known else None)
        for i, slot in enumerate(layers)
    )
    slots = {plane.index: slot.number for plane, slot in zip(planes, layers, strict=True)}
    extended = None
    if fused is not None:
        extended = FocalPlane(-1, fused.name)
        slots[-1] = fused.number
    levels = _levels(structure, records)
    zero = next((i for i, slot in enumerate(layers) if slot.layer == 0), None)
    return Stack(
        planes,
        extended,
        slots,
        zero,
        levels,
        tuple(_warnings(structure, records, list(slots.values()), levels)),
        tuple(_not_shown(structure, records, list(slots.values()), filters)),
    )


def _ordered(slots: Sequence[FocusSlot]) -> tuple[list[FocusSlot], bool]:
    """Return the slots from the lowest, and whether their heights are known."""
    heights = [slot.z_um for slot in slots if slot.z_um is not None]
    if len(set(heights)) == len(slots):
        return sorted(slots, key=lambda slot: slot.z_um or 0.0), True
    numbers = [slot.layer for slot in slots if slot.layer is not None]
    if len(set(numbers)) == len(slots):
        return sorted(slots, key=lambda slot: slot.layer or 0), False
    return list(slots), False


def _levels(structure: Structure, records: Records) -> int:
    """Return how many zoom levels there is anything to see on."""
    stored = [z for z in range(len(structure.zooms)) if records.heads[:, z].any()]
    for level in range(stored[-1] + 1):
        parts = max(1, structure.zooms[level].concat // structure.divisions)
        smallest = min(structure.zooms[level].tile) / parts
        if min(structure.shape(level)) == 0 or smallest < _LEAST_PART:
            return max(level, 1)
    return stored[-1] + 1


def _warnings(
    structure: Structure, records: Records, slots: Sequence[int], levels: int
) -> list[str]:
    lacking = [level for level in range(levels) if not all(records.stored(s, level) for s in slots)]
    said = []
    if lacking:
        count = sum(not all(records.stored(s, level) for level in lacking) for s in slots)
        which = (
            f"level {lacking[0]}" if len(lacking) == 1 else f"levels {lacking[0]} to {lacking[-1]}"
        )
        said.append(
            f"Zoom {which} of {count} focus layers are not stored; they are computed from finer "
            "ones, which takes longer."
        )
    kind = structure.ini.get("GENERAL", "SLIDE_TYPE") or ""
    filters = structure.hierarchy(FILTER)
    if "FLUORESCENCE" in kind.upper() and filters is not None:
        names = [structure.ini.get(s, "FILTER_NAME") or "?" for s in filters.sections]
        said.append(
            f"This is a fluorescence slide (filters {', '.join(names)}), shown as red, green and "
            "blue; methods for stained cells do not fit it."
        )
    return said


def _not_shown(
    structure: Structure, records: Records, shown: Sequence[int], filters: Sequence[int]
) -> list[str]:
    said = []
    hidden = [slot for slot in structure.slots if slot.number not in shown]
    count, total = len(hidden), len(structure.slots)
    partly = [slot.name for slot in hidden if records.heads[slot.number].any()]
    if hidden and records.rule == "unknown":
        name = structure.slots[shown[0]].name
        said.append(
            f"{count} of {total} focus layers, whose place in the file is unknown; {name} is shown"
        )
    elif len(hidden) > len(partly):
        said.append(f"{count - len(partly)} of {total} focus layers, which hold no images")
    if partly:
        said.append(f"{', '.join(partly)}, stored without the full size")
    named = structure.hierarchy(FILTER)
    if filters and named is not None:
        names = [
            structure.ini.get(named.sections[n], "FILTER_NAME") or named.values[n] for n in filters
        ]
        said.append(f"filter levels with images of their own: {', '.join(names)}")
    return said
