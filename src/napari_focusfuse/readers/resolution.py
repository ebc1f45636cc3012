"""Physical sizes that files state, in micrometres, or None: what is unknown is never invented."""

from __future__ import annotations

import math

PLAUSIBLE_MPP = (0.02, 5.0)
"""Micrometres per pixel a microscope or slide scanner can have; outside, a resolution tag means the
screen or the printer (72 per inch are 353 um, 2400 per inch 10.6 um)."""

_MICROMETRES = {
    "µm": 1.0,
    "μm": 1.0,  # the Greek letter instead of the micro sign
    "um": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25400.0,
}


def micrometres(value: str | float | None, unit: str = "µm") -> float | None:
    """Return a length in micrometres, or None if it is no finite length in a known unit."""
    factor = _MICROMETRES.get(unit)
    if value is None or factor is None:
        return None
    try:
        length = float(str(value).replace(",", ".")) * factor
    except ValueError:
        return None
    return length if math.isfinite(length) else None


def pixel_size(y_um: float | None, x_um: float | None) -> tuple[float, float] | None:
    """Return (y, x) micrometres per pixel if both are positive, else None."""
    if y_um is None or x_um is None or y_um <= 0 or x_um <= 0:
        return None
    return y_um, x_um


def plausible_pixel_size(y_um: float | None, x_um: float | None) -> tuple[float, float] | None:
    """Return (y, x) micrometres per pixel if a microscope can have them, else None."""
    size = pixel_size(y_um, x_um)
    low, high = PLAUSIBLE_MPP
    return size if size and all(low <= side <= high for side in size) else None
