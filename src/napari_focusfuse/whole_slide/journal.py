"""Finished blocks on disk: a spool of bytes, and a journal that says what lies where.

A block's bytes are appended to the spool and forced to the disk before its line is appended to the
journal, so a line that is whole tells the truth.  It carries a hash nevertheless: on opening, each
entry is held against the spool, and what does not agree is as if it had never been.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from napari_focusfuse.writer import OutputError, sync_folder

from .blocks import Block


class OtherWorkError(OutputError):
    """There is unfinished work of other parameters."""


@dataclass(frozen=True)
class Entry:
    """Where a block's parts lie in the spool."""

    offset: int
    sizes: tuple[int, ...]
    hash: str
    notes: Mapping[str, Any]
    """What else was noted of the block, such as how many of its tiles were skipped."""

    @property
    def stop(self) -> int:
        """First byte after the block."""
        return self.offset + sum(self.sizes)


class Journal:
    """Spool and journal of one job, open for appending.

    Parameters
    ----------
    output
        The file the work is for; spool and journal lie beside it.
    run
        Hash of the job's identity.
    about
        What the first line says beside that, JSON.
    discard
        Whether to throw away work of another identity instead of refusing.

    Raises
    ------
    OtherWorkError
        If there is work of another identity.
    OSError
        If the files cannot be read or written.
    """

    def __init__(
        self, output: Path, run: str, about: Mapping[str, Any], *, discard: bool = False
    ) -> None:
        self.output, self._header = output, {"run": run, **about}
        self._journal_path, self._spool_path = journal_path(output), spool_path(output)
        self.entries: dict[Block, Entry] = {}
        """Finished blocks, in the order they were finished."""
        found = (read_header(output) or {}).get("run")
        if found not in (None, run) and not discard:
            raise OtherWorkError(
                f"{self._journal_path} holds unfinished work of other parameters or of another "
                f"slide; finish it with those, or give --overwrite to discard it."
            )
        self._spool = self._open_spool()
        try:
            if found == run:
                self.entries = self._verified(read_entries(output))
            self._stop = max((entry.stop for entry in self.entries.values()), default=0)
            self._spool.truncate(self._stop)
            self._rewrite()
            self._journal = self._journal_path.open("ab")
        except BaseException:
            self._spool.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the spool."""
        return self._stop

    def append(self, block: Block, parts: Sequence[bytes], notes: Mapping[str, Any]) -> None:
        """Keep a finished block for good.

        Raises
        ------
        OSError
            If the disk refuses; the block then counts as not done.
        """
        entry = Entry(self._stop, tuple(map(len, parts)), _hash(parts), notes)
        try:
            self._spool.seek(entry.offset)
            for part in parts:
                self._spool.write(part)
            _settle(self._spool)
            self._journal.write(_line(block, entry))
            _settle(self._journal)
        except OSError:
            # A full disk has room again for whoever must say so.
            with suppress(OSError):
                os.truncate(self._spool_path, self._stop)
            raise
        self.entries[block], self._stop = entry, entry.stop

    def read(self, block: Block, part: int) -> bytes:
        """Return one part of a finished block."""
        entry = self.entries[block]
        offset = entry.offset + list(accumulate(entry.sizes, initial=0))[part]
        self._spool.seek(offset)
        return self._spool.read(entry.sizes[part])

    def close(self) -> None:
        """Close the files; the work stays."""
        # Closing writes what is buffered, which may fail as writing did: nothing is lost by that.
        for stream in (self._spool, self._journal):
            with suppress(OSError):
                stream.close()

    def remove(self) -> None:
        """Close and remove the files: the work is finished."""
        self.close()
        remove_work(self.output)

    def _open_spool(self) -> BinaryIO:
        self._spool_path.touch()
        return self._spool_path.open("r+b")

    def _verified(self, entries: Mapping[Block, Entry]) -> dict[Block, Entry]:
        length = self._spool_path.stat().st_size
        return {
            block: entry
            for block, entry in entries.items()
            if entry.stop <= length and self._hash_of(entry) == entry.hash
        }

    def _hash_of(self, entry: Entry) -> str:
        self._spool.seek(entry.offset)
        return _hash([self._spool.read(size) for size in entry.sizes])

    def _rewrite(self) -> None:
        """Write the journal anew, so that no torn line is ever continued."""
        lines = [_line(block, entry) for block, entry in self.entries.items()]
        partial = self._journal_path.with_name(f"{self._journal_path.name}.partial")
        with partial.open("wb") as stream:
            stream.write(json.dumps(self._header).encode() + b"\n")
            stream.writelines(lines)
            _settle(stream)
        os.replace(partial, self._journal_path)
        sync_folder(self._journal_path.parent)


def journal_path(output: Path) -> Path:
    """Return where the journal of an output lies."""
    return output.with_name(f"{output.name}.journal")


def spool_path(output: Path) -> Path:
    """Return where the spool of an output lies."""
    return output.with_name(f"{output.name}.spool")


def remove_work(output: Path) -> None:
    """Remove spool and journal of an output, if there are any."""
    journal_path(output).unlink(missing_ok=True)
    spool_path(output).unlink(missing_ok=True)


def read_header(output: Path) -> dict[str, Any] | None:
    """Return what the journal beside an output says of its run, or None if there is no journal."""
    try:
        with journal_path(output).open("rb") as stream:
            header = json.loads(stream.readline())
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) else None


def read_entries(output: Path) -> dict[Block, Entry]:
    """Return what a journal says, without its torn lines; the spool is not looked at."""
    entries = {}
    with journal_path(output).open("rb") as stream:
        stream.readline()
        for line in stream:
            parsed = _parsed(line)
            if parsed is not None:
                entries[parsed[0]] = parsed[1]
    return entries


def _line(block: Block, entry: Entry) -> bytes:
    record = {
        "block": [block.row, block.column],
        "offset": entry.offset,
        "sizes": entry.sizes,
        "hash": entry.hash,
        "notes": dict(entry.notes),
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> tuple[Block, Entry] | None:
    """Return one line's block and entry, or None if it is not whole."""
    try:
        record: Any = json.loads(line) if line.endswith(b"\n") else None
        row, column = record["block"]
        entry = Entry(
            int(record["offset"]),
            tuple(int(size) for size in record["sizes"]),
            str(record["hash"]),
            dict(record["notes"]),
        )
        block = Block(int(row), int(column))
    except (ValueError, KeyError, TypeError):
        return None
    return (block, entry) if min(entry.offset, *entry.sizes) >= 0 else None


def _hash(parts: Sequence[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _settle(stream: BinaryIO) -> None:
    """Force what was written to the disk."""
    stream.flush()
    os.fsync(stream.fileno())
