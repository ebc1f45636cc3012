"""A folder of the user's own sharp images, described as the data set that a recipe asks for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from napari_focusfuse.benchmark_definition import OPTICS, DataError, data_set

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FEWEST = 2
"""One image to learn from and one to be judged by."""


def own_or_known(folder: Path, known: str, description: Path) -> str:
    """Return the data set that a folder holds; one of the user's own is described in a file.

    Parameters
    ----------
    folder
        Of sharp images.
    known
        The data set the recipe names; it stays where the folder holds its images.
    description
        The file to write otherwise.  Its parts are drawn by the images' hashes: the same image is
        always in the same part.

    Raises
    ------
    DataError
        If the folder holds too few images.
    """
    if known and _holds(folder, known):
        return known
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES
    }
    if len(digests) < FEWEST:
        raise DataError(
            f"{folder} holds {len(digests)} images, and {FEWEST} or more are needed, one of them "
            "to judge by; choose another folder."
        )
    by_hash = sorted(digests, key=lambda name: digests[name])
    share = max(1, len(by_hash) // 10)
    parts = {
        "validation": by_hash[:share],
        "calibration": [],
        "test": by_hash[share : 2 * share] if len(by_hash) > FEWEST else [],
    }
    held_out = {name for names in parts.values() for name in names}
    parts["train"] = [name for name in by_hash if name not in held_out]
    lines = [
        f"name = {_quoted(folder.name)}",
        'doi = "none"',
        'licence = "the user\'s own images"',
        f"citation = {_quoted(folder.name)}",
        f"mpp = {OPTICS.mpp}  # assumed: what the simulated microscope has",
    ]
    for part, names in parts.items():
        lines += ["", f"[{part}]", *(f"{_quoted(n)} = {_quoted(digests[n])}" for n in names)]
    description.parent.mkdir(parents=True, exist_ok=True)
    description.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(description.absolute())


def _holds(folder: Path, known: str) -> bool:
    try:
        parts = data_set(known).images
    except DataError:
        return False
    return all(
        (folder / name).is_file() for part in ("train", "validation") for name in parts[part]
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
