"""Where a fused picture comes from, as it is shown, saved and read back."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from napari_focusfuse.slide import FocalPlane, Slide

from .method import FusionMethod, MapInfo, MethodInfo, PixelMapper
from .plan import FusionPlan


def fusion_provenance(
    plan: FusionPlan, method: FusionMethod, mappers: Sequence[PixelMapper] = ()
) -> dict[str, Any]:
    """Return where a picture comes from, as plain JSON; names of files, never of folders."""
    slide, info, grid, region = plan.slide, plan.info, plan.grid, plan.region
    makers: tuple[FusionMethod | PixelMapper, ...] = (method, *mappers)
    return {
        "software": f"napari-focusfuse {version('napari-focusfuse')}",
        "method": info.name,
        "title": info.title,
        "kind": info.kind,
        "settings": dict(method.info.settings),
        "model_sha256": info.model_hash,
        "model_file": None if info.weights is None else info.weights.name,
        "planes": [_plane(slide, plane) for plane in plan.planes],
        **({"registration": _moved(plan)} if slide.registration else {}),
        "mask_plane": _plane(slide, plan.centre) if _takes_centre(mappers) else None,
        "maps": {about.name: _map(about, maker.info) for maker in makers for about in maker.maps},
        "level_downsample": list(slide.levels[plan.level].downsample),
        "mpp": None if plan.mpp is None else list(plan.mpp),
        "region": [region.y, region.x, region.height, region.width],
        "preset": {
            "name": plan.preset.name,
            "tile": grid.tile,
            "margin": grid.margin,
            "ramp": grid.ramp,
        },
        "tiling": plan.tiling,
        "device": method.device,
        "source": slide.path.name,
        "warnings": list(plan.warnings),
        "use": "research use only",
    }


def _moved(plan: FusionPlan) -> list[dict[str, Any]]:
    """Return the name, scale and shift (y, x; pixels of level 0) of each plane that is fused."""
    moves = plan.slide.registration
    return [{"name": plane.name, **moves[plane.index]} for plane in plan.planes]


def _takes_centre(mappers: Sequence[PixelMapper]) -> bool:
    return any(mapper.takes == "centre" for mapper in mappers)


def _map(about: MapInfo, maker: MethodInfo) -> dict[str, Any]:
    return {
        "title": about.title,
        "unit": about.unit,
        "low": about.low,
        "high": about.high,
        "made_by": maker.name,
        "model_sha256": maker.model_hash,
        "settings": dict(maker.settings),
    }


def _plane(slide: Slide, plane: FocalPlane) -> dict[str, Any]:
    return {"name": plane.name, "z_um": plane.z_um, "offset": slide.offset(plane)}
