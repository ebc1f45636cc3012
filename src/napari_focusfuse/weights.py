"""Model files: networks saved and loaded as safetensors with a model card, never as pickles."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from napari_focusfuse.model_card import (
    CARD_KEY,
    MAX_MODEL_BYTES,
    ModelCard,
    ModelError,
    card_in,
    unreadable,
)
from napari_focusfuse.models import build
from napari_focusfuse.slide import FocusFuseError

_STORED_FLOATS = (torch.float16, torch.float32)


class ModelOutputError(FocusFuseError, OSError):
    """A model file cannot be written."""

    exit_code = 5


def save_model(
    path: str | Path, module: nn.Module, card: ModelCard, *, half: bool = False
) -> ModelCard:
    """Save a network with its card; a file of that name is replaced whole or not at all.

    Parameters
    ----------
    path
        File to write, ``*.safetensors``.
    module
        The network, one that ``build(card.architecture, card.config)`` could have made.
    card
        Its declaration; ``sha256`` is filled in.
    half
        Store the weights as float16, at half the size; they are loaded as float32 all the same.

    Returns
    -------
    ModelCard
        The card as written.

    Raises
    ------
    ModelError
        If the card does not fit the network, or a weight is not finite.
    ModelOutputError
        If the file cannot be written.
    """
    path = Path(path)
    tensors = {name: _stored(tensor, half) for name, tensor in module.state_dict().items()}
    _check_tensors(path, tensors, card)
    card = replace(card, sha256=_hash(tensors))
    write_whole(path, save(tensors, metadata={CARD_KEY: card.to_json()}))
    return card


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, ModelCard]:
    """Load a network: its weights are verified before they are used.

    Parameters
    ----------
    path
        A file written by :func:`save_model`.
    device
        Where the network shall run.

    Returns
    -------
    (network, card)
        The network in evaluation mode, float32.

    Raises
    ------
    ModelError
        If the file cannot be read, is a pickle, is damaged, its weights are not finite or do not
        fit the architecture it names, or its card contradicts its network.
    """
    path = Path(path)
    content = _content(path)
    card = card_in(io.BytesIO(content), path)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ModelError(f"{path.name} is damaged ({error}); copy it again.") from None
    if _hash(tensors) != card.sha256:
        raise ModelError(
            f"{path.name} is damaged: its weights do not have the hash its card states; "
            "copy it again."
        )
    _check_tensors(path, tensors, card)
    module = build(card.architecture, card.config)
    module.load_state_dict(tensors)
    return module.to(device).eval(), card


def _content(path: Path) -> bytes:
    """Return a whole model file; its size is checked before memory is taken."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_MODEL_BYTES:
                raise ModelError(
                    f"{path.name} is larger than {MAX_MODEL_BYTES >> 20} MB, which no model of "
                    "ours is; choose another file."
                )
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from None


def _stored(tensor: Tensor, half: bool) -> Tensor:
    """Return a tensor as it goes to the file."""
    stored = tensor.detach().cpu().contiguous()
    return stored.half() if half and stored.is_floating_point() else stored.clone()


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], card: ModelCard) -> None:
    """Refuse weights that are not finite, or not those of the network the card names."""
    try:
        with torch.device("meta"):  # takes no memory, so a lying configuration costs nothing
            module = build(card.architecture, card.config)
    except ModelError as error:
        reason = str(error)
        raise ModelError(f"{path.name} cannot be used: {reason[0].lower()}{reason[1:]}") from None
    check_keys(path, tensors, module.state_dict(), card.architecture)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{path.name} cannot be used: its weights contain NaN or infinity in {name!r}; "
                "train or copy it again."
            )
    planes, declared = getattr(module.config, "planes", 1), len(card.plane_offsets)
    if planes != declared:
        raise ModelError(
            f"{path.name} contradicts itself: its card lists {declared} focus layers and its "
            f"network takes {planes}; choose another model."
        )
    if card.multiple_of % int(getattr(module, "multiple_of", 1)):
        raise ModelError(
            f"{path.name} contradicts itself: its card takes sizes in multiples of "
            f"{card.multiple_of} and its network in multiples of {module.multiple_of}; choose "
            "another model."
        )


def check_keys(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], architecture: str
) -> None:
    """Refuse tensors whose names, shapes or types are not those of the architecture.

    Raises
    ------
    ModelError
        If they are not.
    """
    missing, unknown = (
        sorted(expected.keys() - tensors.keys()),
        sorted(tensors.keys() - expected.keys()),
    )
    if missing or unknown:
        named = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}"
        raise ModelError(
            f"{path.name} does not fit the architecture {architecture!r} it names: it {named} "
            f"({len(missing)} missing, {len(unknown)} unknown); choose another model."
        )
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise ModelError(
                f"{path.name} does not fit the architecture {architecture!r} it names: {name!r} "
                f"has shape {tuple(tensor.shape)} instead of {tuple(wanted.shape)}; choose another "
                "model."
            )
        allowed = _STORED_FLOATS if wanted.is_floating_point() else (wanted.dtype,)
        if tensor.dtype not in allowed:
            raise ModelError(
                f"{path.name} stores {name!r} as {tensor.dtype}, which is not supported; save it "
                "as float16 or float32."
            )


def write_whole(path: Path, content: bytes) -> None:
    """Write a model beside the target, then rename: nobody ever sees half of it.

    Raises
    ------
    ModelOutputError
        If the file cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # the temporary file is the owner's only
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise ModelOutputError(
            f"The model {path} cannot be written ({reason}); choose another folder."
        ) from None
