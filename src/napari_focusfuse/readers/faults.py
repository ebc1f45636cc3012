"""Faults of files, told in one sentence.  Files come from anywhere and are not trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_focusfuse.slide import FocusFuseError, SlideError, UnsupportedSlideError


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into a :class:`SlideError`."""
    try:
        yield
    except FocusFuseError:
        raise
    except PermissionError as error:
        raise SlideError(
            f"{path} may not be read; ask for permission to read it, or copy it to your own folder."
        ) from error
    except Exception as error:  # decoders raise anything at all on damaged bytes
        reason = (str(error).splitlines() or [""])[0].strip(" .")[:120]
        raise damaged(path, reason or type(error).__name__) from error


def damaged(path: Path, reason: str) -> SlideError:
    """Return the error for a file whose content contradicts itself."""
    return SlideError(
        f"{path.name or path} is damaged or incomplete ({reason}); copy or export it again."
    )


def not_rgb(name: str, what: str) -> UnsupportedSlideError:
    """Return the error for an image that is not 8-bit RGB."""
    return UnsupportedSlideError(
        f"{name} holds {what}, and this version reads 8-bit RGB only; convert it to 8-bit RGB."
    )
