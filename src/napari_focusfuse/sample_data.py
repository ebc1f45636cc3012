"""The slides in File > Open Sample."""

from __future__ import annotations

from pathlib import Path

from .layer_metadata import LayerData, slide_layers
from .readers import open_slide

FOLDER = Path(__file__).parent / "samples"


def algae() -> list[LayerData]:
    """Return the layers of a real stack of five focus layers, of unknown scale."""
    return _sample("algae.ome.tif")


def synthetic_smear() -> list[LayerData]:
    """Return the layers of a rendered smear: eleven focus layers, the truth as extended focus."""
    return _sample("smear.ome.tif")


def _sample(name: str) -> list[LayerData]:
    return slide_layers(open_slide(FOLDER / name))
