"""Images with masks somebody drew: a folder of pairs, cut into patches."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_focusfuse.benchmark_definition import DataError
from napari_focusfuse.slide import Region, UInt8Image

from .patch_cache import is_whole
from .squares import squares
from .stack import SUFFIX, StackFile, TrainingStack

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of images, in lower case."""
_BLURRED = 127
"""A mask's values above this are blurred."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path

    @property
    def name(self) -> str:
        """What the split calls it."""
        return self.image.name

    def patches(self, cache: Path, side: int, overlap: float) -> list[tuple[int, int, Path]]:
        """Return where the image's patches lie in it and in the cache.

        Raises
        ------
        DataError
            If the image cannot be read, or is smaller than a patch.
        """
        height, width = _size(self.image)
        if min(height, width) < side:
            raise DataError(
                f"{self.image.name} has {width} x {height} pixels, less than one patch of {side} "
                "px; lower patch in the recipe."
            )
        facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in self._files]
        digest = hashlib.sha256(repr((facts, side)).encode()).hexdigest()[:16]
        folder = cache / "annotated" / f"{self.image.stem}-{digest}"
        places = squares(Region(0, 0, height, width), side, overlap)
        return [(y, x, folder / f"{y:06}-{x:06}{SUFFIX}") for y, x in places]

    @property
    def _files(self) -> tuple[Path, Path]:
        return self.image, self.mask

    def read(self) -> tuple[UInt8Image, npt.NDArray[np.uint8]]:
        """Return the (Y, X, 3) image and the (Y, X) labels: 1 blurred, 0 sharp.

        Raises
        ------
        DataError
            If one of them cannot be read, or they differ in size.
        """
        image = np.asarray(_opened(self.image).convert("RGB"))
        mask = np.asarray(_opened(self.mask).convert("L"))
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{self.image.name} has {image.shape[1]} x {image.shape[0]} pixels and its mask "
                f"{mask.shape[1]} x {mask.shape[0]}; make them of one size."
            )
        return image, (mask > _BLURRED).astype(np.uint8)


def pairs(folder: Path) -> list[Pair]:
    """Return the images of a folder that have a mask, in the order of their names.

    Either ``name.png`` beside ``name.mask.png``, or ``images/name.png`` and ``masks/name.png``.
    """
    images, masks = folder / "images", folder / "masks"
    if images.is_dir() and masks.is_dir():
        by_stem = {path.stem: path for path in pictures(masks)}
        return [Pair(p, by_stem[p.stem]) for p in pictures(images) if p.stem in by_stem]
    by_stem = {path.stem: path for path in pictures(folder)}
    found = ((path, by_stem.get(f"{path.stem}.mask")) for path in pictures(folder))
    return [Pair(path, mask) for path, mask in found if mask is not None]


def cut(pair: Pair, patches: list[tuple[int, int, Path]], side: int) -> list[StackFile]:
    """Cut what the cache lacks of an annotated image and return all of it.

    Raises
    ------
    DataError, StackError
        If the pair cannot be read, or the disk refuses.
    """
    missing = [patch for patch in patches if not is_whole(patch[2])]
    if missing:
        image, blurred = pair.read()
        for y, x, path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            window = np.s_[y : y + side, x : x + side]
            part = image[window]
            TrainingStack(part[None], part, part, blurred[window]).save(path)
    return [StackFile(path) for _, _, path in patches]


def pictures(folder: Path) -> list[Path]:
    """Return the image files of a folder, in the order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())


def _size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.height, image.width


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); export it again.") from None
    return image
