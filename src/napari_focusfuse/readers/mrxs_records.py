"""Which list of ``Index.dat`` belongs to which focus slot and zoom level.

No maker's description exists.  The hierarchical table counts records with one digit per hierarchy,
which real slides confirm for zoom and filter; for focus slots there are two accounts: further
digits of the table, or heads of lists that lie next to each other, eight bytes apart.  Each is
tried on the file in hand, and what was found is kept as evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_focusfuse.slide import SlideError

from .faults import damaged
from .mrxs_codecs import codec_of
from .mrxs_index import Entries, Index
from .mrxs_structure import FILTER, Structure

Heads = npt.NDArray[np.int64]
"""(slots, zoom levels): where each list begins in the index, 0 where nothing is stored."""


@dataclass(frozen=True)
class Records:
    """The lists of a slide."""

    heads: Heads
    rule: str
    """``"table"``, ``"adjacent heads"``, ``"one slot"``, or ``"unknown"``: only slot 0 is found."""
    evidence: tuple[str, ...]
    """One sentence for each account that was tried."""

    def stored(self, slot: int, zoom: int) -> bool:
        """Tell whether a slot has images at a zoom level."""
        return bool(self.heads[slot, zoom])


@dataclass(frozen=True)
class _Trial:
    """What one account finds for the slots after the first."""

    heads: Heads
    good: int
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.good > 0 and not self.faults

    def told(self, name: str) -> str:
        found = f"{name}: {self.good} of {len(self.heads) - 1} further slots lead to images"
        return found + (f"; {self.faults[0]}" if self.faults else "")


def find_records(structure: Structure, index: Index) -> Records:
    """Find the lists of all focus slots.

    Raises
    ------
    SlideError
        If the first slot's list is damaged.
    """
    slots, zooms = range(len(structure.slots)), range(len(structure.zooms))
    numbers = np.array([[structure.record(zoom, slot) for zoom in zooms] for slot in slots])
    table = index.table[numbers].astype(np.int64)
    first = _stored(index, table[:1])
    start = next((zoom for zoom in zooms if first[0, zoom]), None)
    reference = None if start is None else list_of(index, int(first[0, start]), start)
    if len(slots) == 1:
        return Records(first, "one slot", ())
    trial = _try(index, table, reference)
    evidence = [trial.told("table")]
    if trial.holds:
        return Records(_stored(index, table), "table", tuple(evidence))
    beside = np.where(first > 0, table[:1] + 8 * np.arange(len(slots))[:, None], 0)
    taken = set(index.table.tolist()) & set(beside[1:].ravel().tolist()) - {0}
    if taken:
        evidence.append(f"adjacent heads: {len(taken)} of them belong to other records")
    else:
        trial = _try(index, beside, reference)
        evidence.append(trial.told("adjacent heads"))
        if trial.holds:
            return Records(_stored(index, beside), "adjacent heads", tuple(evidence))
    alone = np.concatenate([first, np.zeros((len(slots) - 1, len(zooms)), np.int64)])
    return Records(alone, "unknown", tuple(evidence))


def list_of(index: Index, head: int, zoom: int) -> Entries:
    """Return the first entries of a list whose first payload is an image.

    Raises
    ------
    SlideError
        If there is no such list.
    """
    found = index.first_entries(head, zoom)
    if len(found) and codec_of(index.payload(found[0], 16)) is None:
        raise damaged(index.slide, f"the image at byte {found[0]['offset']} is of no known kind")
    return found


def stored_filters(structure: Structure, index: Index) -> list[int]:
    """Return the further filter levels that have images of their own."""
    filters = structure.hierarchy(FILTER)
    if filters is None:
        return []
    numbers = [n for n in range(len(filters.values)) if n != filters.default]
    return [n for n in numbers if index.table[structure.record(0, 0, n)] > 0]


def _try(index: Index, heads: Heads, reference: Entries | None) -> _Trial:
    """Look at the first images of every slot after the first."""
    faults: list[str] = []
    seen: set[int] = set()
    good = 0
    for slot, row in enumerate(heads[1:].tolist(), 1):
        zoom = next((zoom for zoom, head in enumerate(row) if head), None)
        if zoom is None:
            continue
        try:
            found = list_of(index, row[zoom], zoom)
        except SlideError as error:
            reason = str(error).partition(" (")[2].rpartition(")")[0]  # without the slide's name
            faults.append(f"slot {slot} is no list of images, as {reason}")
            continue
        if not len(found):
            continue
        if row[zoom] in seen or (reference is not None and _same(found, reference)):
            faults.append(f"slot {slot} repeats the images of another")
        seen.add(row[zoom])
        good += 1
    return _Trial(heads, good, tuple(faults))


def _same(one: Entries, other: Entries) -> bool:
    """Tell whether two lists begin with the same bytes of the same file."""
    if not len(one) or not len(other):
        return False
    return bool(one[0]["file"] == other[0]["file"] and one[0]["offset"] == other[0]["offset"])


def _stored(index: Index, heads: Heads) -> Heads:
    """Return the heads with 0 for empty lists; what is damaged is told when it is read."""
    found = heads.copy()
    rows: Sequence[Sequence[int]] = heads.tolist()
    for slot, row in enumerate(rows):
        for zoom, head in enumerate(row):
            try:
                if head and not index.first_page(head):
                    found[slot, zoom] = 0
            except SlideError:
                continue
    return found
