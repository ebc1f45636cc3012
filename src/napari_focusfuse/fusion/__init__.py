"""Fusion methods, and how a slide is fused tile by tile; torch is imported only by what runs."""

from .catalogue import (
    available_methods,
    blur_detector_info,
    load_blur_detector,
    load_method,
    method_info,
)
from .maps import available_maps, load_mappers
from .method import (
    FusionError,
    FusionMethod,
    MapInfo,
    MethodInfo,
    PixelMapper,
    UnknownMethodError,
)
from .planes import choose_planes, offset_names
from .region import (
    DEFAULT,
    PAPER,
    SLIDE,
    Fusion,
    FusionPlan,
    Preset,
    TileDone,
    fuse,
    nearest_level,
    plan_fusion,
    run_fusion,
)
from .stack import StackError, fuse_stack, register_stack

__all__ = [
    "DEFAULT",
    "PAPER",
    "SLIDE",
    "Fusion",
    "FusionError",
    "FusionMethod",
    "FusionPlan",
    "MapInfo",
    "MethodInfo",
    "PixelMapper",
    "Preset",
    "StackError",
    "TileDone",
    "UnknownMethodError",
    "available_maps",
    "available_methods",
    "blur_detector_info",
    "choose_planes",
    "fuse",
    "fuse_stack",
    "load_blur_detector",
    "load_mappers",
    "load_method",
    "method_info",
    "nearest_level",
    "offset_names",
    "plan_fusion",
    "register_stack",
    "run_fusion",
]
