"""The models that are judged: found by file, run or name, and copied as they would be shipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_focusfuse.fusion.catalogue import blur_companion
from napari_focusfuse.model_card import ModelCard, ModelError, read_card, shipped_models
from napari_focusfuse.training_run import TrainingRun
from napari_focusfuse.weights import load_model, save_model

BLUR_MODELS = ("blur", "small-blur")
"""Architectures that mark blur; all others fuse."""


@dataclass(frozen=True)
class Candidate:
    """One model."""

    label: str
    """Its name in the tables: the card's, with the seed where several models share it."""
    file: Path
    card: ModelCard

    @property
    def marks_blur(self) -> bool:
        """Whether it is a blur model, not a generator."""
        return self.card.architecture in BLUR_MODELS

    @property
    def seed(self) -> int | None:
        """Seed of its training, if the card says."""
        return self._recipe.get("seed")

    @property
    def width(self) -> int | None:
        """Channels of its first layer, if the card says."""
        return self.card.config.get("width")

    @property
    def _recipe(self) -> Mapping[str, Any]:
        recipe = self.card.training.get("recipe", {})
        return recipe if isinstance(recipe, Mapping) else {}

    def sentence(self) -> str:
        """Return how it was trained, as its card says."""
        steps = self.card.training.get("steps_done", "an unknown number of")
        wide = "of its own width" if self.width is None else f"width {self.width}"
        masks = "with" if self.card.blur_model else "without"
        task = "blur model" if self.marks_blur else f"{masks} blur model"
        facts = [f"{steps} steps", wide, task]
        if "patch" in self._recipe:
            facts.insert(1, f"patches of {self._recipe['patch']} px")
        if self.seed is not None:
            facts.append(f"training seed {self.seed}")
        return f"{self.label}: {', '.join(facts)}"


def find_candidates(words: Sequence[str]) -> list[Candidate]:
    """Return the models that words stand for: files, runs (their best), or shipped names.

    Raises
    ------
    ModelError
        If a word stands for no model.
    """
    return _labelled([(path, read_card(path)) for path in map(_file_of, words)])


def _file_of(word: str) -> Path:
    path, shipped = Path(word), shipped_models()
    if path.is_dir():
        best = TrainingRun(path).best
        if not best.is_file():
            raise ModelError(f"{path} holds no best.safetensors; train that run first.")
        return best
    if word in shipped and not path.exists():
        return shipped[word]
    if not path.suffix and not path.exists():
        names = ", ".join(shipped) or "none is shipped"
        raise ModelError(f"There is no model {word!r}; give a file, a run's folder, or: {names}.")
    return path


def _labelled(files: Sequence[tuple[Path, ModelCard]]) -> list[Candidate]:
    """Give every model a label of its own, which is also its file's name."""
    names = Counter(card.name for _, card in files)
    found: list[Candidate] = []
    for path, card in files:
        label, seed = card.name, Candidate("", path, card).seed
        if names[label] > 1 and seed is not None:
            label = f"{label}-seed{seed}"
        same = sum(other.label.split("--")[0] == label for other in found)
        found.append(Candidate(f"{label}--{same + 1}" if same else label, path, card))
    return found


def adopt(candidates: Sequence[Candidate], out: Path) -> list[Candidate]:
    """Copy models into a folder as they would be shipped: float16, with the blur models they need.

    A generator's card names its blur model by hash, and the hash is that of the stored numbers:
    the copy's card names the copied blur model.

    Returns
    -------
    list of Candidate
        The copies, in the same order; blur models that only came along are not among them.

    Raises
    ------
    ModelError, ModelOutputError
        If a model is damaged, its blur model is missing, or the folder cannot be written.
    """
    copied: dict[str, ModelCard] = {}
    for candidate in candidates:
        if candidate.marks_blur:
            copied[candidate.card.sha256] = _copy(candidate, out, None)
    taken = {candidate.label for candidate in candidates}
    found = []
    for candidate in candidates:
        blur, card = None, copied.get(candidate.card.sha256)
        if not candidate.marks_blur:
            companion = blur_companion(candidate.file, candidate.card)
            if companion is not None:
                blur = _copied_blur(companion, out, copied, taken).sha256
            card = _copy(candidate, out, blur)
        assert card is not None
        found.append(Candidate(candidate.label, _in(out, candidate.label), card))
    return found


def _copied_blur(path: Path, out: Path, copied: dict[str, ModelCard], taken: set[str]) -> ModelCard:
    """Return the card of a blur model's copy, made unless it is there."""
    card = read_card(path)
    if card.sha256 not in copied:
        label = card.name
        while label in taken:
            label += "-blur"
        taken.add(label)
        copied[card.sha256] = _copy(Candidate(label, path, card), out, None)
    return copied[card.sha256]


def _copy(candidate: Candidate, out: Path, blur: str | None) -> ModelCard:
    network, card = load_model(candidate.file)
    return save_model(_in(out, candidate.label), network, replace(card, blur_model=blur), half=True)


def _in(out: Path, label: str) -> Path:
    return out / f"{label}.safetensors"


def note_scores(
    candidate: Candidate, scores: Mapping[str, Any], error_factor: float | None = None
) -> None:
    """Write what a copy scored into its card, and its interval's factor if one was found."""
    network, card = load_model(candidate.file)
    changed = replace(
        card,
        scores={**card.scores, **scores},
        error_factor=card.error_factor if error_factor is None else error_factor,
    )
    save_model(candidate.file, network, changed, half=True)
