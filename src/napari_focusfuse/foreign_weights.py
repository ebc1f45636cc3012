"""Weights that others saved with PyTorch become model files: the one door for pickled tensors.

A ``.pt`` file is a pickle, which could run code when it is opened.  Here only PyTorch's own
restricted reader touches it, which knows tensors and plain containers and calls nothing else; how
large it is is known before it is read, and nothing but numbers of the right names and shapes gets
past.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_focusfuse.model_card import MAX_MODEL_BYTES, ModelCard, ModelError, unreadable
from napari_focusfuse.models import build
from napari_focusfuse.weights import check_keys, save_model

MAX_CARD_BYTES = 1 << 20
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params", "generator")
"""Under which of these names programs keep the weights beside their optimiser's state."""
_PARALLEL = "module."
"""What ``torch.nn.parallel`` puts before every name."""
_UNKNOWN = {"data": "unknown", "licence": "unknown", "split": "unknown", "steps": "unknown"}


def convert(source: Path, target: Path, card: Path, *, half: bool = False) -> ModelCard:
    """Make a model file of weights that ``torch.save`` wrote.

    Parameters
    ----------
    source
        Weights by name, or a dictionary that holds such under a customary name.
    target
        The ``.safetensors`` file to write.
    card
        JSON file with fields of a :class:`ModelCard`; ``name`` and ``architecture`` are needed.
        What is not said of the training is recorded as unknown.
    half
        Store the weights as float16.

    Returns
    -------
    ModelCard
        The card as written.

    Raises
    ------
    ModelError
        If the file is no archive of ``torch.save``, holds more than tensors, or does not fit the
        architecture; or if the card is not valid.
    ModelOutputError
        If the target cannot be written.
    """
    described = _description(card)
    architecture, config = described["architecture"], described.get("config", {})
    tensors = read_tensors(source)
    with torch.device("meta"):  # takes no memory, so a lying configuration costs nothing
        expected = build(architecture, config).state_dict()
    check_keys(source, tensors, expected, architecture)
    module = build(architecture, config)
    module.load_state_dict(tensors)
    return save_model(target, module, _card(described, module, source), half=half)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the weights in a ``.pt`` file by name; floating-point ones as float32.

    Raises
    ------
    ModelError
        If it cannot be read, or holds anything else.
    """
    _check_size(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, ValueError, KeyError, EOFError, TypeError):
        raise ModelError(
            f"{path.name} is damaged, or holds more than tensors, which could run code and was not "
            "opened; save its state_dict() alone."
        ) from None
    inner = (held[name] for name in _WRAPPERS if isinstance(held, dict) and name in held)
    held = next((part for part in inner if isinstance(part, Mapping)), held)
    if not isinstance(held, Mapping) or not held or not all(map(_is_weight, held.items())):
        raise ModelError(f"{path.name} holds no weights by name; save a network's state_dict().")
    parallel = all(name.startswith(_PARALLEL) for name in held)
    return {
        name.removeprefix(_PARALLEL) if parallel else name: (
            tensor.float() if tensor.is_floating_point() else tensor
        )
        for name, tensor in held.items()
    }


def _check_size(path: Path) -> None:
    """Refuse what is not a zip archive, or would unpack to more than any model of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except OSError as error:
        raise unreadable(path, error) from None
    except zipfile.BadZipFile:
        raise ModelError(
            f"{path.name} is not an archive of torch.save, or one of before PyTorch 1.6, or is cut "
            "short; save it again with a newer PyTorch."
        ) from None
    if size > MAX_MODEL_BYTES:
        raise ModelError(
            f"{path.name} holds {size >> 20} MB, and no model of ours more than "
            f"{MAX_MODEL_BYTES >> 20}; save the network's state_dict() alone."
        )


def _is_weight(item: tuple[object, object]) -> bool:
    """Tell whether an entry is a dense tensor that is no larger than what the file holds for it."""
    name, tensor = item
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        # Strides of zero could make a page of numbers fill the memory when it is copied.
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _description(path: Path) -> dict[str, Any]:
    """Return the fields in a card's file.

    Raises
    ------
    ModelError
        If it cannot be read, is no JSON object, or has unknown or missing fields.
    """
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_CARD_BYTES))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        values = None
    known = {field.name for field in fields(ModelCard)} - {"sha256"}
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} is not a JSON object; give name and architecture at least.")
    values.pop("sha256", None)  # of other weights, in a card that was copied
    if values.keys() - known:
        raise ModelError(
            f"{path.name} has the field {min(values.keys() - known)!r}, which no card has; the "
            f"fields are {', '.join(sorted(known))}."
        )
    if not {"name", "architecture"} <= values.keys():
        raise ModelError(f"{path.name} must give name and architecture.")
    if not isinstance(values["architecture"], str) or not isinstance(
        values.get("config", {}), dict
    ):
        raise ModelError(f"{path.name} must give architecture as text and config as an object.")
    return values


def _card(described: Mapping[str, Any], module: nn.Module, source: Path) -> ModelCard:
    """Return a valid card: what was described, what the network itself says, and unknown."""
    planes = int(getattr(module.config, "planes", 1))
    first = -(planes // 2)
    training = described.get("training", {})
    if not isinstance(training, dict):
        raise ModelError(f"The training of {described['name']!r:.80} must be an object.")
    origin = {"converted_from": source.name, "file_sha256": _hash(source)}
    found = {
        "title": f"Converted from {source.name}",
        "config": {},
        "plane_offsets": list(range(first, first + planes)),
        "halo": int(module.reach),  # type: ignore[arg-type]
        "multiple_of": int(module.multiple_of),  # type: ignore[arg-type]
        "limits": [
            "Not for diagnosis.",
            f"Weights of others, converted from {source.name}: how they were trained is known only "
            "as far as this card says, and nobody has measured here how well they do.",
        ],
        **described,
        "training": {**_UNKNOWN, **training, **origin},
    }
    if getattr(module.config, "mask", False) and not found.get("blur_model"):
        raise ModelError(
            "This network takes blur masks; give blur_model, the sha256 in its blur model's card, "
            "or set mask to false in config."
        )
    return ModelCard.from_json(json.dumps(found))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
