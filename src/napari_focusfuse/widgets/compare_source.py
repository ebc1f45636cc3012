"""Which pictures two layers stand for, and in what words their comparison is told."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_focusfuse.comparison import Comparison
from napari_focusfuse.layer_metadata import length_um

from ._view import layer_axes, view_window
from .compare_request import (
    ArraySource,
    Box,
    CompareRequest,
    FileSource,
    SlideSource,
    Source,
    frame_of,
)
from .slide_source import ours, slide_of


def layer_request(
    viewer: Any, image: Any, reference: Any | FileSource, shift: tuple[int, int] | None
) -> CompareRequest | None:
    """Return what comparing two layers, or a layer with a file, means; None if one is missing.

    Raises
    ------
    FocusFuseError
        If a layer cannot be compared.
    """
    if image is None or reference is None:
        return None
    scale = length_um(1.0, image.units[-1])
    placed = False
    if not isinstance(reference, FileSource):
        lengths = scale is not None and length_um(1.0, reference.units[-1]) is not None
        same = ours(image).get("slide_id")
        # In pixels, two layers lie in one world only if they show one slide.
        placed = lengths or (same is not None and same == ours(reference).get("slide_id"))
    return CompareRequest(
        image=layer_source(viewer, image),
        reference=reference
        if isinstance(reference, FileSource)
        else layer_source(viewer, reference),
        view=_view_box(viewer, image),
        scale=scale,
        placed=placed,
        shift=shift,
    )


def layer_source(viewer: Any, layer: Any) -> Source:
    """Return where the pixels of an RGB layer come from.

    Raises
    ------
    FocusFuseError
        If it has more axes than z, or is not 8-bit.
    """
    frame = frame_of(layer_axes(layer))
    noted = ours(layer)
    flat = layer.ndim == 2 and not layer.multiscale
    if flat and isinstance(layer.data, np.ndarray) and layer.data.dtype == np.uint8:
        return ArraySource(layer.name, layer.data, frame)
    if noted.get("kind") == "extended focus":
        slide = noted["slide"]
        return SlideSource(layer.name, slide, slide.extended, frame)
    slide = slide_of(layer)
    plane = slide.planes[view_window(viewer, layer).plane]
    name = layer.name if len(slide.planes) == 1 else f"{layer.name} {plane.name}"
    return SlideSource(name, slide, plane, frame)


def score_text(result: Comparison, by_hand: bool) -> str:
    """Return one line on what was compared: pixels, level, how it was placed."""
    height, width = result.shape
    parts = [f"{height} x {width} px ({result.pixels:,})"]
    if result.level is not None:
        parts.append(f"level {result.level}")
    if by_hand:
        parts.append("shift by hand")
    elif result.peak is not None:
        parts.append(f"found by correlation, peak {result.peak:.0f}")
    else:
        parts.append("placed by position")
    return " · ".join(parts)


def _view_box(viewer: Any, layer: Any) -> Box:
    window, frame = view_window(viewer, layer), frame_of(layer_axes(layer))
    return Box(
        frame.corner[0] + window.top * frame.size[0],
        frame.corner[1] + window.left * frame.size[1],
        frame.corner[0] + window.bottom * frame.size[0],
        frame.corner[1] + window.right * frame.size[1],
    )
