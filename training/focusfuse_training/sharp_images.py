"""Sharp images to simulate from: those of a data set, or a folder of the user's own."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from napari_focusfuse.benchmark_definition import DataError, DataSet, Part, data_set
from napari_focusfuse.slide import Region, UInt8Image
from napari_focusfuse.training_config import TrainingConfig

from .annotated import pictures
from .split import PARTS, Split, draw
from .squares import Parts, held_out

OWN = ("", "images")
"""A recipe's ``data_set`` where the sharp images are a folder of the user's own."""


class SharpImages(ABC):
    """Images by their use."""

    name: str
    """What the cache calls them."""
    parts: Mapping[str, list[str]]
    """Part -> names of images."""
    regions: Mapping[str, Parts] = {}
    """Image -> part -> region, where one image serves several parts."""

    @abstractmethod
    def read(self, part: str) -> list[UInt8Image]:
        """Return the (Y, X, 3) images of a part.

        Raises
        ------
        DataError
            If one of them is missing or cannot be read.
        """


class DataSetImages(SharpImages):
    """The images of a data set, which says itself what they are for.

    Raises
    ------
    DataError
        If there is no such data set, or it trains nothing.
    """

    def __init__(self, config: TrainingConfig, folder: Path) -> None:
        self._set: DataSet = data_set(config.data_set)
        if not self._set.images["train"]:
            raise DataError(
                f"The data set {config.data_set!r} measures models and trains none; name another "
                "in the recipe's data_set."
            )
        self._folder = folder
        self.name = Path(config.data_set).stem  # a data set may be given by the path of its file
        self.parts = {part: list(self._set.images[_as_part(part)]) for part in PARTS}

    def read(self, part: str) -> list[UInt8Image]:
        """Return the images of a part, in the order of their names."""
        return self._set.read(self._folder, _as_part(part))


class FolderImages(SharpImages):
    """All images of a folder, divided by the recipe's seed; one alone is divided itself."""

    def __init__(self, config: TrainingConfig, folder: Path, known: Split | None) -> None:
        files = pictures(folder)
        if not files:
            raise DataError(f"The folder {folder} holds no image; name one with sharp images.")
        self._files = {path.name: path for path in files}
        facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        self.regions = dict(known.regions) if known else {}
        if known is None:
            drawn = draw(list(self._files), config.seed)
            for name in (name for name, part in drawn.items() if not part):
                self.regions = {name: _divided(self._files[name], config.stack_px)}
        else:
            drawn = {name: known.part_of(name) or "train" for name in self._files}
        self.parts = {
            part: [
                name
                for name in self._files
                if drawn[name] == part or part in self.regions.get(name, {})
            ]
            for part in PARTS
        }
        self.regions = {name: area for name, area in self.regions.items() if name in self._files}
        drawn_by = repr((facts, self.parts, self.regions))
        self.name = f"images-{hashlib.sha256(drawn_by.encode()).hexdigest()[:16]}"

    def read(self, part: str) -> list[UInt8Image]:
        """Return the images of a part, or what of them belongs to it."""
        images = []
        for name in self.parts[part]:
            image = _read(self._files[name])
            if name in self.regions:
                area = self.regions[name][part]
                image = image[area.y : area.stop_y, area.x : area.stop_x]
            images.append(image)
        return images


def sharp_images(
    config: TrainingConfig, folder: Path | None, known: Split | None
) -> SharpImages | None:
    """Return the images to simulate from, or None if no folder was named.

    Raises
    ------
    DataError
        If there is no such data set, or the folder holds nothing.
    """
    if folder is None:
        return None
    if config.data_set in OWN:
        return FolderImages(config, folder, known)
    return DataSetImages(config, folder)


def _as_part(part: str) -> Part:
    parts: dict[str, Part] = {"train": "train", "validation": "validation", "test": "test"}
    return parts[part]


def _divided(path: Path, side: int) -> Parts:
    height, width = _read(path).shape[:2]
    ways = held_out(Region(0, 0, height, width), side)
    if not ways:
        raise DataError(
            f"{path.name} is too small to keep a part of it for validation; add a second image, or "
            f"lower stack_px = {side} in the recipe."
        )
    return ways[0]


def _read(path: Path) -> UInt8Image:
    try:
        return np.asarray(Image.open(path).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as an image ({error}); export it again, or take it away."
        ) from None
