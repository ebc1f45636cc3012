"""What a run writes down: models with cards for its user, states for going on."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from napari_focusfuse.benchmark_definition import data_set
from napari_focusfuse.model_card import ModelCard, ModelError, read_card, shipped_models
from napari_focusfuse.training_config import RecipeError, TrainingConfig
from napari_focusfuse.training_run import RunError, TrainingRun
from napari_focusfuse.weights import load_model, save_model

from .corpus import Corpus
from .learner import Learner
from .sharp_images import OWN
from .simulation import RANGES
from .split import PARTS, Split
from .validation import Scores

log = logging.getLogger(__name__)

_BLUR_MODEL = "blur.safetensors"
_LIMITS = (
    "Research use only: not for diagnosis; a restored pixel is an inference, not an observation.",
    "Cells outside the captured focus layers by more than about 3 um are beyond recovery.",
    "Other stains, scanners, optics and specimens than those it was trained on were not seen.",
)


def save_models(
    run: TrainingRun, learner: Learner, corpus: Corpus, scores: Scores, *, best: bool
) -> None:
    """Write the model as the last one, and as the best one if it is.

    Raises
    ------
    ModelOutputError
        If the disk refuses; the files of before stay whole.
    """
    card = make_card(run, learner, corpus, scores)
    save_model(run.last, learner.mean, card)
    if best:
        save_model(run.best, learner.mean, card)


def save_state(run: TrainingRun, learner: Learner) -> None:
    """Write what resuming needs; the state before it is kept as well.

    Raises
    ------
    RunError
        If the disk refuses; the states of before stay whole.
    """
    partial = run.state.with_suffix(".partial")
    try:
        save_file(learner.state(), partial)
        if run.state.exists():
            os.replace(run.state, run.previous_state)
        os.replace(partial, run.state)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"The state of {run.folder} cannot be written ({error}); free some space and resume: "
            "the last checkpoint is whole."
        ) from None


def restore_state(run: TrainingRun, learner: Learner) -> bool:
    """Take up the newest state that is whole; return whether there was one.

    Raises
    ------
    RunError
        If there are states, but none can be used.
    """
    damaged = ""
    for path in (run.state, run.previous_state):
        if not path.exists():
            continue
        try:
            learner.restore(load_file(path, device="cpu"))
        except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
            log.warning("%s is damaged (%s); the state before it is tried.", path, error)
            damaged = path.name
        else:
            return True
    if damaged:
        raise RunError(
            f"The states in {run.folder} are damaged; delete {damaged} to start anew, or start "
            f"from {run.last.name} by a recipe's start."
        )
    return False


def blur_model_of(run: TrainingRun, config: TrainingConfig) -> nn.Module | None:
    """Return the blur model whose masks the generator takes; the run keeps a copy of its own.

    Raises
    ------
    RecipeError, ModelError
        If it is not there, is damaged, or is no blur model.
    """
    if not config.blur_model:
        return None
    copy = run.folder / _BLUR_MODEL
    source = copy if copy.exists() else _named_model(config.blur_model)
    network, card = load_model(source)
    if card.architecture not in ("blur", "small-blur"):
        raise RecipeError(f"{config.blur_model} marks no blur; name a blur model in the recipe.")
    if source != copy:
        save_model(copy, network, card, half=_is_half(source))
    return network


def _named_model(name: str) -> Path:
    if not name.endswith(".safetensors"):
        known = shipped_models()
        if name not in known:
            raise ModelError(f"There is no shipped model {name!r}; choose one of {sorted(known)}.")
        return known[name]
    return Path(name)


def _is_half(path: Path) -> bool:
    """Tell whether a model is stored as float16: its copy must have the same hash."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return any(entry.get("dtype") == "F16" for entry in header.values())


def make_card(run: TrainingRun, learner: Learner, corpus: Corpus, scores: Scores) -> ModelCard:
    """Describe the model as the window and the shell show it."""
    config, network = run.config(), learner.mean
    planes = config.planes
    blur = run.folder / _BLUR_MODEL
    return ModelCard(
        name=config.name,
        title=config.title,
        architecture=config.architecture,
        config=dict(config.network),
        plane_offsets=(0,) if planes == 1 else tuple(range(-(planes // 2), planes // 2 + 1)),
        z_step_um=None if planes == 1 else corpus.z_step_um,
        mpp=corpus.mpp,
        halo=int(network.reach),  # type: ignore[arg-type]
        multiple_of=int(network.multiple_of),  # type: ignore[arg-type]
        blur_model=read_card(blur).sha256 if config.blur_model else None,
        training=_training(run, config, learner),
        scores={"validation": scores},
        limits=_LIMITS,
    )


def _training(run: TrainingRun, config: TrainingConfig, learner: Learner) -> dict[str, Any]:
    """Return what the card says of the training.

    Own slides and images are counted, not named: a model is passed on, and names may be patients'.
    """
    found: dict[str, Any] = {
        "recipe": {key: _unplaced(value) for key, value in asdict(config).items()},
        "steps_done": learner.step,
        "patches_seen": learner.patches,
        "command": f"focusfuse train {config.name}.toml --data DIR --out RUN",
    }
    split, sources = Split.read(run.split_file), run.data()
    if split is not None:
        found["split"] = {part: len(getattr(split, part)) for part in PARTS}
    if sources.slides:
        found["slides"] = len(sources.slides)
        found["references"] = sorted({_kind(slide.reference) for slide in sources.slides})
    if sources.images is not None and config.data_set not in OWN:
        data = data_set(config.data_set)
        found |= {
            "data_set": data.name,
            "doi": data.doi,
            "licence": data.licence,
            "citation": data.citation,
            "images": sorted(data.images["train"]),
            "truth": "simulated defocus; the truth carries the noise of the plane it came from",
            "simulation": list(RANGES),
        }
    return found


def _unplaced(value: object) -> object:
    """Return a setting without the folders of this machine."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _kind(reference: str) -> str:
    known = reference == "extended" or reference.startswith("fusion:")
    return reference if known else "another file"
