"""How good a blur mask is: pixel counts that add up over images, and the scores they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_focusfuse.metrics import grey
from napari_focusfuse.slide import UInt8Image

BoolImage = npt.NDArray[np.bool_]

UNKNOWN = 255
"""In a mask of training data: nobody can say whether this pixel is blurred."""


@dataclass(frozen=True)
class Confusion:
    """Pixels of a mask by what they are called and what they are; "blurred" is positive."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    rejections: int = 0

    @classmethod
    def of(cls, mask: BoolImage, truth: BoolImage, where: BoolImage | None = None) -> Confusion:
        """Count (Y, X) masks, all of them or only ``where``."""
        counted = np.ones_like(truth) if where is None else where
        pairs = ((mask, truth), (mask, ~truth), (~mask, truth), (~mask, ~truth))
        return cls(*(int((called & actual & counted).sum()) for called, actual in pairs))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(*(a + b for a, b in zip(self._counts(), other._counts(), strict=True)))

    def _counts(self) -> tuple[int, int, int, int]:
        return self.hits, self.false_alarms, self.misses, self.rejections

    @property
    def iou(self) -> float:
        """Intersection over union of the blurred pixels."""
        return self.hits / max(1, self.hits + self.false_alarms + self.misses)

    @property
    def iou_sharp(self) -> float:
        """Intersection over union of the sharp pixels: what calling all blurred cannot earn."""
        return self.rejections / max(1, self.rejections + self.false_alarms + self.misses)

    @property
    def precision(self) -> float:
        """Share of the pixels called blurred that are."""
        return self.hits / max(1, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        """Share of the blurred pixels that are called so."""
        return self.hits / max(1, self.hits + self.misses)


def foreground(image: UInt8Image) -> BoolImage:
    """Return where a (Y, X, 3) image holds cells: coloured by more than 20 levels, or dark."""
    return (np.ptp(image.astype(np.int16), axis=2) > 20) | (grey(image) < 180)
