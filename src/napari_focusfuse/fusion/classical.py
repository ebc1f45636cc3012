"""What the classical fusion methods say of themselves, and their settings.  This needs no torch.

Where a comment names no paper, the settings are those of the best SSIM-paper over drawn smears and
training fields at depths +-4 and +-8 um, three layers: ``benchmarks/settings.py``, whose output is
``benchmarks/logs/settings.txt``.
"""

from __future__ import annotations

from dataclasses import replace

from .method import MethodInfo

EVIDENCE = MethodInfo(
    name="evidence",
    title="Weighed evidence",
    kind="selection",
    plane_offsets=None,
    halo=92,
    multiple_of=16,
    settings={"levels": 4, "noisiest": 12.0, "coupling": 0.7, "doubt": 0.7, "temperature": 0.4},
    advice="The default: averages layers that agree and selects where they differ.",
)
# A decision_sigma of 9 gains 0.001 more, but lets a plane show 20 px from where it is sharpest.
ARGMAX = MethodInfo(
    name="argmax",
    title="Sharpest layer",
    kind="selection",
    plane_offsets=None,
    halo=33,
    multiple_of=2,
    settings={"energy_sigma": 4.0, "decision_sigma": 6.0},
    advice="The fastest: a first look, and stacks in which one layer is clearly sharpest.",
)
# Five levels would gain 0.0003 and look further than the margin of a tile.
PYRAMID = MethodInfo(
    name="pyramid",
    title="Laplacian pyramid",
    kind="selection",
    plane_offsets=None,
    halo=92,
    multiple_of=16,
    settings={"levels": 4, "window": 9},
    advice="Quick and good where layers differ clearly, overlapping cells among them.",
)
# The literature's usual depth; five levels would gain 0.002.
WAVELET = MethodInfo(
    name="wavelet",
    title="Wavelets",
    kind="selection",
    plane_offsets=None,
    halo=45,
    multiple_of=16,
    settings={"levels": 4, "wavelet": "db2"},
    advice="To compare with the wavelet fusion of the literature; dtcwt and pyramid are better.",
)
DTCWT = MethodInfo(
    name="dtcwt",
    title="Complex wavelets (DTCWT)",
    kind="selection",
    plane_offsets=None,
    halo=470,
    multiple_of=32,
    settings={"levels": 5, "window": 3, "filters": "near_sym_b + qshift_b"},
    advice="For quality where layers differ clearly and time matters little.",
)
# Five levels would gain 0.004 but look 187 px far, more than the margin of a tile.
COMPLEX_WAVELET = MethodInfo(
    name="complex-wavelet",
    title="Complex wavelets (Forster)",
    kind="selection",
    plane_offsets=None,
    halo=91,
    multiple_of=16,
    settings={"levels": 4, "filter": "complex Daubechies, 6 taps"},
    advice="Where every colour must be one a layer holds; the classic of microscopy.",
)
# All as in its paper.
GUIDED = MethodInfo(
    name="guided",
    title="Guided filter",
    kind="selection",
    plane_offsets=None,
    halo=96,
    settings={
        "base": 31,
        "sigma": 5.0,
        "base_radius": 45,
        "base_epsilon": 0.3,
        "detail_radius": 7,
        "detail_epsilon": 1e-6,
    },
    advice="To compare with the guided-filter fusion of the literature.",
)
CLASSICAL = (EVIDENCE, ARGMAX, PYRAMID, DTCWT, COMPLEX_WAVELET, GUIDED, WAVELET)
"""In the order of listings."""

PYRAMID_PLAIN = replace(
    PYRAMID,
    name="pyramid-plain",
    title="Laplacian pyramid, plain",
    halo=76,
    settings={"levels": 4, "window": 1},
    advice="The plain rule of the literature, for tables.",
)
DTCWT_PLAIN = replace(
    DTCWT,
    name="dtcwt-plain",
    title="Complex wavelets (DTCWT), plain",
    halo=198,
    multiple_of=16,
    settings={**DTCWT.settings, "levels": 4, "window": 1},
    advice="The plain rule of the literature, for tables.",
)
PLAIN = (PYRAMID_PLAIN, DTCWT_PLAIN)
"""What the literature means by these names: the largest coefficient wins, each by itself.  They can
be had by name, for tables, and are not listed; ``wavelet`` is plain as it is."""
