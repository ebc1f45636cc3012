"""Fusion by weighed evidence: planes that differ are selected, planes that agree are averaged.

Taking the sharpest plane is right where the planes differ by more than their noise.  Where they do
not, it throws the light of all others away and lets the noise choose.  Here each band of a
Laplacian pyramid (Burt & Adelson 1983, IEEE Trans. Commun. 31:532) becomes a weighted mean over the
planes, and a weight says how far a plane stands out of the noise:

1. Around each place, E_k = <b_k^2> is the energy of plane k's band b_k, in grey.
2. The noise is N = min(V, min_k E_k, H), where V = <sum_k (b_k - mean_k b_k)^2> / (Z - 1) is what
   the Z planes disagree by.  Each bounds the noise from above: V meets it where the planes show the
   same, the least E_k where some plane shows nothing.  H is what white noise of a deviation of
   ``noisiest`` / 255 in grey leaves, more than any scanner's: without it, planes that all show
   much, but other things, as where light is bent, would pass for noisy.
3. The evidence for plane k at scale s is its amplitude in units of the noise,
   y_ks = sqrt(E_k / N).  The root makes it as uncertain for strong bands as for weak ones: the
   variance of E under noise grows with E, that of its root does not.
4. What is sharpest at one scale is so at others, unless objects overlap: with r = ``coupling``,
   Y_ks = sum over scales t of r^|s - t| y_kt.
5. Evidence that noise alone could give is none: the planes' Y_ks are shrunk towards their mean M_s,
   M_s + (Y_ks - M_s) max(0, 1 - doubt^2 / S_s), where S_s = mean_k (Y_ks - M_s)^2 (James & Stein
   1961, Proc. 4th Berkeley Symp. 1:361; its positive part).
6. The weights are the softmax over k of that, divided by ``temperature``.  The coarsest level takes
   those of the coarsest band: its plain mean would hold the halos of everything out of focus.

"Around" is about a Gaussian of sigma 2 pixels of the scale; of sigma 1 at the coarsest, where 2
would look a third further and gain 0.0002 SSIM.  The settings were chosen on simulated smears of
the training images and of seeds that the benchmark does not use.

Only neighbourhoods count, never the tile as a whole, and the order of the planes does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bands import BandMethod, grey
from .method import MethodInfo
from .pyramid import expand, reduce, smooth

WHITE_NOISE = (0.9355, 0.2444, 0.1063, 0.0515)
"""Standard deviation, in each band from the finest on, of white noise that has 1 at each pixel."""
_LEAST_NOISE = (0.1 / 255) ** 2
"""Variance below that of 8-bit rounding, (0.19 / 255)^2 in grey: against division by zero."""


class EvidenceMethod(BandMethod):
    """Weigh the planes of each scale by how clearly they stand out of the noise.

    The weights are positive, sum to one, and are the same for all three channels; each value is
    kept within the span of its sources: no false colour arises.
    Sides and origins of tiles must be multiples of 2 ** levels, else the pyramid shifts with them.
    """

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        super().__init__(info, device)
        self.levels = int(info.settings["levels"])
        self.coupling = float(info.settings["coupling"])
        self.doubt = float(info.settings["doubt"])
        noisiest = float(info.settings["noisiest"]) / 255
        self.most_noise = [(noisiest * left) ** 2 for left in WHITE_NOISE[: self.levels]]
        self.temperature = float(info.settings["temperature"])

    def merge(self, planes: Tensor) -> Tensor:
        """Merge (Z, 3, Y, X) planes to (1, 3, Y, X); the result may overshoot them."""
        if len(planes) == 1:
            return planes
        level, bands = planes, []
        for _ in range(self.levels):
            coarser = reduce(level)
            bands.append(level - expand(coarser))
            level = coarser
        weights = self.weights(bands)
        fused = weighted_mean(level, weights[-1])
        for band, weight in zip(reversed(bands), reversed(weights), strict=True):
            fused = expand(fused) + weighted_mean(band, expand(weight))
        return fused

    def weights(self, bands: list[Tensor]) -> list[Tensor]:
        """Return, for each (Z, 3, Y, X) band from the finest on, (Z, 1, Y / 2, X / 2) weights."""
        own = [
            evidence(grey(band), most_noise, further=band is not bands[-1])
            for band, most_noise in zip(bands, self.most_noise, strict=True)
        ]
        return [
            softmax(shrunk(together, self.doubt) / self.temperature)
            for together in shared(own, self.coupling)
        ]


def evidence(band: Tensor, most_noise: float, further: bool) -> Tensor:
    """Return how far each plane stands out of the noise.

    Parameters
    ----------
    band
        (Z, 1, Y, X) band-pass of at least two planes, in grey.
    most_noise
        The highest variance that counts as noise.
    further
        Whether to average over about a Gaussian of sigma 2 pixels instead of 1.

    Returns
    -------
    (Z, 1, Y / 2, X / 2) amplitudes, about 1 at the noise
    """
    count = len(band)
    # The last plane of it: the squared sum, for what the planes disagree by.
    squares = torch.cat([band, band.sum(dim=0, keepdim=True)]).square_()
    energies = smooth(reduce(squares)) if further else reduce(squares)
    energy, of_sum = energies[:count], energies[count:]
    disagreement = (energy.sum(dim=0, keepdim=True) - of_sum / count) / (count - 1)
    # Rounding may leave less than nothing of planes that are equal.
    noise = torch.minimum(disagreement, energy.amin(dim=0, keepdim=True)).clamp(0, most_noise)
    return (energy / (noise + _LEAST_NOISE)).sqrt()


def shared(own: list[Tensor], coupling: float) -> list[Tensor]:
    """Add to each scale's evidence that of the others, times ``coupling`` for each step between.

    Two sweeps do it: up, gathering from the finer scales; and down, taking from the coarser ones
    what they have beside what they were given.
    """
    gathered = own[:1]
    for coarser in own[1:]:
        gathered.append(coarser + coupling * reduce(gathered[-1]))
    result = gathered[-1:]
    for finer in reversed(gathered[:-1]):
        result.append(finer + coupling * expand(result[-1] - coupling * reduce(finer)))
    return result[::-1]


def shrunk(values: Tensor, doubt: float) -> Tensor:
    """Return (Z, 1, Y, X) deviations from the planes' mean, none where all are within ``doubt``."""
    deviations = values - values.mean(dim=0, keepdim=True)
    spread = deviations.square().mean(dim=0, keepdim=True)
    # Equal planes have no spread, and 0 * (1 - infinity) is no number.
    return deviations * (1 - doubt**2 / spread.clamp_min(1e-12)).clamp_min(0)


def softmax(values: Tensor) -> Tensor:
    """Return the softmax over the planes; torch's differs in the last bit with its threads."""
    parts = (values - values.amax(dim=0, keepdim=True)).exp_()
    return parts.div_(parts.sum(dim=0, keepdim=True))


def weighted_mean(images: Tensor, weights: Tensor) -> Tensor:
    """Return the (1, C, Y, X) mean of (Z, C, Y, X) images under weights that sum to one."""
    mean = images[:1] * weights[:1]
    for image, weight in zip(images[1:], weights[1:], strict=True):
        mean.addcmul_(image, weight)
    return mean
