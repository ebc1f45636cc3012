"""Reading whatever may be wrong with a file."""

from __future__ import annotations

from pathlib import Path

from napari_focusfuse.readers import open_slide
from napari_focusfuse.slide import FocusFuseError


def read_everything(path: Path) -> None:
    """Open and read a file; whatever is wrong with it must be told in one sentence of ours."""
    try:
        with open_slide(path) as slide:
            for level in range(len(slide.levels)):
                height, width = (min(side, 200) for side in slide.levels[level].shape)
                for plane in slide.planes[:4]:
                    image = slide.read_region(plane, level, 0, 0, height, width)
                    assert image.shape == (height, width, 3)
            dict(slide.associated)
            assert isinstance(slide.structure(), dict)
            assert slide.bounds.height >= 0
    except FocusFuseError as error:
        text = str(error)
        assert "\n" not in text
        assert text.endswith(".")
