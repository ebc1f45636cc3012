"""Which fusion methods there are.  This module needs no torch until one is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_focusfuse.model_card import (
    PICKLE_SUFFIXES,
    ModelCard,
    ModelError,
    read_card,
    shipped_models,
)
from napari_focusfuse.slide import PlaneError

from .classical import CLASSICAL, PLAIN
from .method import ERROR, INFERRED, FusionMethod, MethodInfo, UnknownMethodError

if TYPE_CHECKING:
    from .neural import BlurDetector

_MODEL_ADVICE = {
    "swift": "Stained smears with blur in every layer; on other specimens check its result.",
    "generator": "The paper's network; the small one that ships scores below its own input.",
    "fusiongan": "A rival that the paper names, for comparison.",
    "pix2pix": "A rival that the paper names, for comparison.",
    "srgan": "A rival that the paper names, for comparison.",
    "liu": "To compare with the selecting network of the literature; slow for many layers.",
}
_FUSING = tuple(_MODEL_ADVICE)
"""Architectures that fuse, and when to choose a model of each."""
_SELECTING = "liu"
"""The architecture among them that picks pixels instead of making them."""
_BEYOND_LIU = 24
"""What its fusion looks further than the network: :data:`.liu.BEYOND`, known without torch."""
_BEYOND_INFERENCE = 12
"""What telling the inferred looks further than a network: :data:`.inference.REACH`, likewise."""
_SWIFT = "swift"
"""The architecture that says how far it expects to be off."""
_SMALL_BLUR = "small-blur"
_BLUR = (_SMALL_BLUR, "blur")


def available_methods() -> tuple[MethodInfo, ...]:
    """Return what every installed method says of itself: the classical ones, then the models."""
    cards = [(path, read_card(path)) for path in shipped_models().values()]
    models = (model_info(path, card) for path, card in cards if card.architecture in _FUSING)
    return (*CLASSICAL, *models)


def method_info(name: str, planes: int | None = None) -> MethodInfo:
    """Return the method of a name.

    Parameters
    ----------
    name
        A method's name, that of a family such as ``"swift"``, or the path of a model file.
    planes
        How many focal planes will be fused; chooses within a family.  None: the most it takes.

    Raises
    ------
    UnknownMethodError
        If nothing has this name.
    PlaneError
        If no model of the family takes so many planes.
    ModelError
        If the model file cannot be used.
    """
    if name.endswith((".safetensors", *PICKLE_SUFFIXES)):  # those are refused with the reason
        return model_info(Path(name), read_card(name))
    methods = available_methods()
    family = {}
    for info in (*methods, *PLAIN):
        if info.name == name:
            return info
        if info.name.startswith(f"{name}-") and info.plane_offsets is not None:
            family[len(info.plane_offsets)] = info
    if not family:
        names = ", ".join(info.name for info in methods)
        raise UnknownMethodError(f"There is no fusion method {name!r}; choose one of {names}.")
    count = max(family) if planes is None else planes
    if count not in family:
        counts = " or ".join(str(number) for number in sorted(family))
        raise PlaneError(
            f"The method {name} takes {counts} focus layers, not {count}; choose that many, or "
            "another method."
        )
    return family[count]


def model_info(path: Path, card: ModelCard) -> MethodInfo:
    """Return what a fusion model says of itself, its blur model's reach and pooling included.

    Raises
    ------
    ModelError
        If it does not fuse, or needs a blur model that is not there.
    """
    if card.architecture not in _FUSING:
        raise ModelError(f"{path.name} does not fuse focus layers; choose another model.")
    halo, multiple_of = card.halo, card.multiple_of
    companion = blur_companion(path, card)
    if companion is not None:
        blur = read_card(companion)
        halo, multiple_of = halo + blur.halo, math.lcm(multiple_of, blur.multiple_of)
    selects = card.architecture == _SELECTING
    return MethodInfo(
        name=card.name,
        title=card.title,
        kind="selection" if selects else "restoration",
        # It compares planes in pairs, so any number will do.
        plane_offsets=None if selects else card.plane_offsets,
        halo=halo + (_BEYOND_LIU if selects else _BEYOND_INFERENCE),
        multiple_of=multiple_of,
        z_step_um=card.z_step_um,
        mpp=card.mpp,
        model_hash=card.sha256,
        weights=path,
        offers=() if selects else (INFERRED, *((ERROR,) if card.architecture == _SWIFT else ())),
        advice=_MODEL_ADVICE[card.architecture],
    )


def blur_companion(path: Path, card: ModelCard) -> Path | None:
    """Return the file of the blur model whose masks a model takes; beside it, or shipped.

    Raises
    ------
    ModelError
        If it is nowhere.
    """
    if card.blur_model is None:
        return None
    for candidate in (*sorted(path.parent.glob("*.safetensors")), *shipped_models().values()):
        if candidate != path and _hash(candidate) == card.blur_model:
            return candidate
    raise ModelError(
        f"{path.name} needs the blur model of hash {card.blur_model[:12]}...; put that model's "
        "file into the same folder."
    )


def load_method(method: str | MethodInfo, device: str = "auto") -> FusionMethod:
    """Make a method ready to fuse; imports torch, so never call it on the window's thread.

    Parameters
    ----------
    method
        A name, see :func:`method_info`, or a declaration from this module.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Raises
    ------
    UnknownMethodError, ModelError, DeviceError
        If there is no such method or device, or its model file is damaged.
    """
    from .argmax import ArgmaxMethod
    from .complex_wavelet import ComplexWaveletMethod
    from .device import find_device
    from .dtcwt import DualTreeMethod
    from .evidence import EvidenceMethod
    from .guided import GuidedMethod
    from .liu import load_liu
    from .neural import load_neural
    from .pyramid import PyramidMethod
    from .wavelet import WaveletMethod

    info = method_info(method) if isinstance(method, str) else method
    chosen = find_device(device).name
    if info.weights is not None:
        return (load_liu if info.kind == "selection" else load_neural)(info, chosen)
    classes: dict[str, Callable[[MethodInfo, str], FusionMethod]] = {
        "evidence": EvidenceMethod,
        "argmax": ArgmaxMethod,
        "pyramid": PyramidMethod,
        "dtcwt": DualTreeMethod,
        "complex-wavelet": ComplexWaveletMethod,
        "guided": GuidedMethod,
        "wavelet": WaveletMethod,
    }
    return classes[info.name.removesuffix("-plain")](info, chosen)


def blur_detector_info(model: str | None = None) -> MethodInfo | None:
    """Return what a blur detector says of itself.

    Parameters
    ----------
    model
        A shipped blur model's name, or the path of a model file.  None: the default one, for which
        the answer is None where it is not shipped.

    Raises
    ------
    UnknownMethodError
        If nothing shipped has this name.
    ModelError
        If the file cannot be used, or marks no blur.
    """
    shipped = shipped_models()
    if model is None:
        cards = ((path, read_card(path)) for path in shipped.values())
        return next((detector_info(*c) for c in cards if c[1].architecture == _SMALL_BLUR), None)
    is_file = model.endswith((".safetensors", *PICKLE_SUFFIXES))
    if not is_file and model not in shipped:
        known = ", ".join(shipped)
        raise UnknownMethodError(f"There is no model {model!r}; choose one of {known}.")
    path = Path(model) if is_file else shipped[model]
    return detector_info(path, read_card(path))


def detector_info(path: Path, card: ModelCard) -> MethodInfo:
    """Return what a blur model says of itself.

    Raises
    ------
    ModelError
        If it is none.
    """
    if card.architecture not in _BLUR:
        raise ModelError(f"{path.name} marks no blurred regions; choose a blur model.")
    return MethodInfo(
        name=card.name,
        title=card.title,
        kind="detection",
        plane_offsets=card.plane_offsets,
        halo=card.halo,
        multiple_of=card.multiple_of,
        mpp=card.mpp,
        model_hash=card.sha256,
        weights=path,
    )


def load_blur_detector(device: str = "auto", model: str | None = None) -> BlurDetector | None:
    """Load a blur detector; imports torch.  See :func:`blur_detector_info`.

    Raises
    ------
    UnknownMethodError, ModelError, DeviceError
        If there is no such model or device, or its file is damaged.
    """
    info = blur_detector_info(model)
    if info is None:
        return None
    from .device import find_device
    from .neural import load_detector

    return load_detector(info, find_device(device).name)


def _hash(path: Path) -> str | None:
    try:
        return read_card(path).sha256
    except ModelError:
        return None
