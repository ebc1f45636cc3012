"""``Slidedat.ini``: sections of keys and values that anybody may have edited.

UTF-8 with or without a byte order mark, sometimes UTF-16; ``,`` or ``.`` as decimal mark; lines
with no key, keys given twice (the last counts, as for OpenSlide).
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from pathlib import Path

from napari_focusfuse.slide import SlideError

from .faults import damaged

MAX_BYTES = 4 << 20
"""Real ones have some 100 kB; a plane of a level takes five lines."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,10}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}([.,][0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


class Ini:
    """The values of an ini file, checked as they are asked for.

    Parameters
    ----------
    slide
        What messages name.
    data
        The bytes of the file.
    """

    def __init__(self, slide: Path, data: bytes) -> None:
        self._slide = slide
        self._values: dict[tuple[str, str], str] = {}
        section = ""
        for line in _text(data).splitlines():
            line = line.strip().strip("\0")
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1].strip()
            elif "=" in line and line[0] not in "#;":
                key, _, value = line.partition("=")
                self._values[section, key.strip()] = value.strip()

    def get(self, section: str, key: str) -> str | None:
        """Return a value, or None if there is none."""
        return self._values.get((section, key))

    def keys(self, section: str) -> Iterator[str]:
        """Yield the keys of a section in the order of the file."""
        return (key for owner, key in self._values if owner == section)

    def text(self, section: str, key: str) -> str:
        """Return a value that must be there."""
        value = self.get(section, key)
        if value is None:
            raise self._wrong(section, key, "is missing")
        return value

    def integer(
        self, section: str, key: str, low: int, high: int, default: int | None = None
    ) -> int:
        """Return a whole number from ``low`` to ``high``; without default it must be there."""
        found = self.get(section, key)
        if found is None and default is not None:
            return default
        value = self.text(section, key)
        if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
            raise self._wrong(section, key, f"is {value[:20]!r}, not {low} to {high}")
        return int(value)

    def number(self, section: str, key: str) -> float | None:
        """Return a finite number, or None if there is none to be read."""
        value = self.get(section, key) or ""
        if not _NUMBER.fullmatch(value):
            return None
        number = float(value.replace(",", "."))
        return number if math.isfinite(number) else None

    def _wrong(self, section: str, key: str, what: str) -> SlideError:
        return damaged(self._slide, f"Slidedat.ini: {key} in [{section}] {what}")


def _text(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")
