"""Files of an open slide that must stay what they were: a half-replaced slide shows nonsense."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari_focusfuse.slide import SlideError

_Facts = tuple[int, int, int]


class Unchanged:
    """What some files were when the slide was opened.

    Parameters
    ----------
    slide
        What messages name.
    files
        The files; by default the slide itself.
    """

    def __init__(self, slide: Path, files: Iterable[Path] | None = None) -> None:
        self._slide = slide
        self._were = {file: _facts(file) for file in ([slide] if files is None else files)}

    def watch(self, file: Path) -> None:
        """Note what a further file is now."""
        self._were.setdefault(file, _facts(file))

    def check(self, file: Path | None = None) -> None:
        """Compare one file with what it was, in some microseconds.

        Raises
        ------
        SlideError
            If it is gone, its drive is, or it is another one.
        """
        file = self._slide if file is None else file
        name = file.name if file == self._slide else f"{file.name} of {self._slide.name}"
        try:
            now = _facts(file)
        except OSError as error:
            raise SlideError(
                f"{name} disappeared while it was open; put it back or connect its "
                "drive again, and open it again."
            ) from error
        if now != self._were[file]:
            raise SlideError(f"{name} changed while it was open; open it again.")


def _facts(file: Path) -> _Facts:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
