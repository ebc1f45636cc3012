"""How a MIRAX slide is stored, to be pasted into a report of a problem: no names, no pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_focusfuse.slide import SlideError

from .mrxs_codecs import codec_of
from .mrxs_index import VERSION, Index
from .mrxs_records import Records
from .mrxs_structure import FOCUS, Structure

_GENERAL = (
    "SLIDE_VERSION",
    "CURRENT_SLIDE_VERSION",
    "SLIDE_TYPE",
    "IMAGENUMBER_X",
    "IMAGENUMBER_Y",
    "CameraImageDivisionsPerSide",
    "OBJECTIVE_MAGNIFICATION",
    "EXTENDED_FOCUS_ALGORITHM",
    "VIMSLIDE_SLIDE_VISIBLE_ZSTACK",
    "VIMSLIDE_SLIDE_VISIBLE_ZSTACK_LEVEL",
)
_TELLING = ("STACK", "EXTENDED", "FOCUS")
_MOST_LISTS = 400


def describe(structure: Structure, index: Index, records: Records) -> dict[str, Any]:
    """Return what ``focusfuse inspect`` prints of a slide's structure."""
    ini = structure.ini
    return {
        "general": {key: ini.get("GENERAL", key) for key in _GENERAL if ini.get("GENERAL", key)},
        "hierarchies": [
            f"{h.name}: {len(h.values)}, default {h.default}: {', '.join(h.values)}"
            for h in structure.hierarchies
        ],
        "other records": [f"{h.name}: {', '.join(h.values)}" for h in structure.others],
        "focus keys": _focus_keys(structure),
        "zoom levels": [
            f"{n}: reduced by {z.concat}, tiles of {z.tile[1]} x {z.tile[0]}, {z.image_format}, "
            f"overlap (x, y) {z.overlap[1]:g}, {z.overlap[0]:g}"
            for n, z in enumerate(structure.zooms)
        ],
        "data files": len(structure.files),
        "index": f"version {VERSION.decode()}, {index.file.size} bytes, roots {index.roots}, "
        f"{structure.records} records, {np.count_nonzero(index.table)} of them used",
        "rule": records.rule,
        "evidence": list(records.evidence),
        "slots": [_slot(structure, records, number) for number in range(len(structure.slots))],
        "records": _records(structure, index),
        "heads beside slot 0": _beside(structure, index),
    }


def _focus_keys(structure: Structure) -> list[str]:
    """Return every key that speaks of focus, of each section once."""
    focus = structure.hierarchy(FOCUS)
    own = [] if focus is None else list(focus.sections)
    sections = [s for h in structure.hierarchies for s in h.sections]
    for number in range(len(structure.hierarchies)):
        sections.append(structure.ini.get("HIERARCHICAL", f"HIER_{number}_SECTION") or "")
    found = []
    for section in dict.fromkeys(sections):
        for key in structure.ini.keys(section):
            if any(word in key.upper() for word in _TELLING) or section in own:
                found.append(f"[{section}] {key} = {structure.ini.get(section, key)}")
    return found


def _slot(structure: Structure, records: Records, number: int) -> str:
    slot = structure.slots[number]
    stored = [str(z) for z in range(len(structure.zooms)) if records.stored(number, z)]
    height = "height unknown" if slot.z_um is None else f"{slot.z_um:g} um"
    return f"{number}: {slot.name}, {height}, zoom levels {', '.join(stored) or 'none'}"


def _records(structure: Structure, index: Index) -> list[str]:
    found = []
    for number in np.flatnonzero(index.table)[:_MOST_LISTS].tolist():
        digits = [number // h.stride % len(h.values) for h in structure.hierarchies]
        head = int(index.table[number])
        found.append(f"{number} {tuple(digits)} at {head}: {_list(structure, index, head)}")
    return found


def _beside(structure: Structure, index: Index) -> list[str]:
    """Return what lies eight bytes apart from the first slot's list, whatever the rule."""
    head = int(index.table[structure.record(0, 0)])
    if not head or len(structure.slots) == 1:
        return []
    heads = [head + 8 * slot for slot in range(len(structure.slots))]
    return [f"{at}: {_list(structure, index, at)}" for at in heads]


def _list(structure: Structure, index: Index, head: int) -> str:
    try:
        pages, entries = index.survey(head)
        if not len(entries):
            return "empty"
        codec = codec_of(index.payload(entries[0], 16))
    except SlideError:
        return "no valid list"
    mean = float(entries["length"].mean())
    return (
        f"{len(entries)} images in {pages} pages, first {entries[0]['image']}, mean {mean:.0f} "
        f"bytes, {'of unknown kind' if codec is None else codec.name}"
    )
