"""Selection of the sharpest focal plane at each pixel, by smoothed Laplacian energy."""

from __future__ import annotations

import numpy as np
import torch

from napari_focusfuse.models.selection import SelectionConfig, decision_map, select

from .method import Float32Image, FusionMethod, MethodInfo


class ArgmaxMethod(FusionMethod):
    """Pick the plane of greatest Laplacian energy, with softened borders."""

    def __init__(self, info: MethodInfo, device: str = "cpu") -> None:
        self.info = info
        self.device = device
        self.config = SelectionConfig()

    def compute(self, stacks: Float32Image) -> Float32Image:
        """Fuse (B, Z, Y, X, 3) stacks; see :meth:`FusionMethod.__call__`."""
        # One stack at a time: what a pixel becomes must not depend on its tile's company.
        return np.concatenate([self._fuse(stack[None]) for stack in stacks])

    @torch.inference_mode()
    def _fuse(self, stack: Float32Image) -> Float32Image:
        planes = torch.from_numpy(stack).to(self.device).movedim(-1, 2)
        fused = select(planes, decision_map(planes, self.config))
        return fused.movedim(1, -1).cpu().numpy()
