"""What a model file says of itself, read without torch and without trusting the file.

A model is a safetensors file: eight bytes of header length, a JSON header, then nothing but
numbers, so that loading one cannot run code.  The card is JSON under ``"focusfuse"`` in the
header's metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from napari_focusfuse.slide import FocusFuseError

MAX_HEADER_BYTES = 1 << 20
MAX_MODEL_BYTES = 1 << 30
CARD_KEY = "focusfuse"

PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelError(FocusFuseError, ValueError):
    """A model file, or a model's description, cannot be used."""


@dataclass(frozen=True)
class ModelCard:
    """The declaration in a model file; checked when it is made."""

    name: str
    """What ``--method`` takes; letters, digits, ``.``, ``_`` and ``-``."""
    title: str
    """What the user reads."""
    architecture: str
    """Which network, as :func:`napari_focusfuse.models.build` names it."""
    config: Mapping[str, Any]
    """The network's configuration."""
    plane_offsets: tuple[int, ...]
    """Focal planes it takes, as offsets from layer 0 in steps of ``z_step_um``, in input order."""
    halo: int
    """Reach in pixels: how far an output pixel looks to each side."""
    multiple_of: int = 1
    """Height and width of its input must be multiples of this many pixels."""
    z_step_um: float | None = None
    """Distance between the planes it was trained for, in micrometres, or None."""
    mpp: float | None = None
    """Micrometres per pixel it was trained for, or None."""
    blur_model: str | None = None
    """SHA-256 of the blur model whose mask it takes, or None."""
    error_factor: float | None = None
    """By how much to multiply the error it expects for an interval that holds the truth of 90 % of
    the colour values, half a grey level added; None: never calibrated."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Data set, DOI, licence, images, split, seed, steps, command."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """What it reached, with the benchmark's name and the command that prints it."""
    limits: tuple[str, ...] = ()
    """Sentences: what it must not be used for."""
    sha256: str = "0" * 64
    """SHA-256 of the tensors' bytes as stored, in the order of their names; set on saving."""
    version: str = "1"

    def __post_init__(self) -> None:
        for problem, wrong in self._checks().items():
            if wrong:
                raise ModelError(
                    f"The model card is not valid ({problem}); ask its maker for another."
                )

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Return the card written by :meth:`to_json`; keys of later versions are ignored.

        Raises
        ------
        ModelError
            If the text is not JSON, or a field is missing or impossible.
        """
        values = _json_object(text, "its card")
        known = {key: values[key] for key in cls.__dataclass_fields__ if key in values}
        for key in ("plane_offsets", "limits"):
            if isinstance(known.get(key), list):
                known[key] = tuple(known[key])
        try:
            return cls(**known)
        except TypeError as error:  # a field without default is missing
            raise ModelError(
                f"The model card is incomplete ({error}); ask its maker for another."
            ) from None

    def _checks(self) -> dict[str, bool]:
        """Return every rule of a card, and whether it is broken."""
        words = (self.title, self.architecture, self.version)
        mappings = (self.config, self.training, self.scores)
        return {
            "its name must be letters, digits, '.', '_' and '-'": not _matches(_NAME, self.name),
            "title, architecture and version must be short printable text": not all(
                _printable(word, 200) for word in words
            ),
            "config, training and scores must be objects": not all(
                isinstance(mapping, Mapping) for mapping in mappings
            ),
            "plane_offsets must be 1 to 64 different integers in increasing order": (
                not _offsets(self.plane_offsets)
            ),
            "halo must be an integer from 0 to 65536": not _integer(self.halo, 0, 1 << 16),
            "multiple_of must be an integer from 1 to 256": not _integer(self.multiple_of, 1, 256),
            "z_step_um, mpp and error_factor must be positive numbers or null": not all(
                value is None or _positive(value)
                for value in (self.z_step_um, self.mpp, self.error_factor)
            ),
            "limits must be a list of printable sentences": not (
                isinstance(self.limits, tuple)
                and all(_printable(line, 2000) for line in self.limits)
            ),
            "sha256 and blur_model must be 64 hexadecimal digits": not (
                _matches(_SHA256, self.sha256)
                and (self.blur_model is None or _matches(_SHA256, self.blur_model))
            ),
        }


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model file; reads at most 1 MB and loads no tensor.

    The tensors are not verified: :func:`napari_focusfuse.weights.load_model` does that.

    Raises
    ------
    ModelError
        If the file cannot be read, is not a safetensors file, is cut short, or has no valid card.
    """
    path = Path(path)
    try:
        found = path.stat()
        return _card_of(path, found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError as error:
        raise unreadable(path, error) from None


@lru_cache(maxsize=64)
def _card_of(path: Path, *_version: int) -> ModelCard:
    """Read a card once for each version of its file: the window asks at every move of the view."""
    with path.open("rb") as file:
        return card_in(file, path)


def card_in(file: BinaryIO, path: Path) -> ModelCard:
    """Return the card in an open model file; ``path`` is for the errors.  See :func:`read_card`."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    header = file.read(length) if 2 <= length <= min(MAX_HEADER_BYTES, size - 8) else b""
    if not header.startswith(b"{"):
        raise _not_safetensors(path, start)
    try:
        entries = _json_object(header, "its header")
        metadata = entries.pop("__metadata__", None)
        if _data_end(entries) != size - 8 - length:
            raise ModelError("it is damaged or cut short; copy it again.")
        if not isinstance(metadata, dict) or not isinstance(metadata.get(CARD_KEY), str):
            raise ModelError("it carries no model card; it was not saved by napari-focusfuse.")
        return ModelCard.from_json(metadata[CARD_KEY])
    except ModelError as error:
        raise ModelError(f"{path.name} cannot be used as a model: {_lowered(error)}") from None


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the package: name to file, in the order of names."""
    folder = Path(__file__).parent / "pretrained"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def unreadable(path: Path, error: OSError) -> ModelError:
    """Return the error for a model file the system does not let us read."""
    reason = error.strerror or str(error)
    return ModelError(f"The model {path} cannot be read ({reason}); check the path.")


def _not_safetensors(path: Path, start: bytes) -> ModelError:
    if start.startswith(_PICKLE_STARTS) or path.suffix.lower() in PICKLE_SUFFIXES:
        return ModelError(
            f"{path.name} is a pickled model, which can run code when it is opened, so it was not "
            "opened; ask its maker for a .safetensors file."
        )
    return ModelError(
        f"{path.name} is not a safetensors file, or is cut short; copy it again or choose another."
    )


def _json_object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ModelError(f"{what} is not a JSON object; the file is damaged: copy it again.")
    return values


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _data_end(entries: Mapping[str, Any]) -> int | None:
    """Return where the last tensor ends, or None if an entry is malformed."""
    end = 0
    for entry in entries.values():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (
            isinstance(offsets, list) and len(offsets) == 2 and _integer(offsets[1], 0, 1 << 62)
        ):
            return None
        end = max(end, offsets[1])
    return end


def _lowered(error: ModelError) -> str:
    text = str(error)
    return text[0].lower() + text[1:]


def _integer(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and 0 < value < 1e9


def _printable(value: object, longest: int) -> bool:
    # Control characters could rewrite the terminal in which a card is shown.
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _offsets(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and 1 <= len(value) <= 64
        and all(_integer(offset, -1000, 1000) for offset in value)
        and list(value) == sorted(set(value))
    )
