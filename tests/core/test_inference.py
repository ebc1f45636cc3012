"""What counts as inferred: detail that no plane holds."""

import numpy as np
import pytest
import torch
from test_catalogue import save

from napari_focusfuse.fusion.inference import REACH, inferred_share
from napari_focusfuse.fusion.maps import load_fusion
from napari_focusfuse.fusion.method import FusionError
from napari_focusfuse.fusion.region import fuse
from napari_focusfuse.models.selection import blur
from napari_focusfuse.slide import Region
from textured_slide import planned, textured_slide

SIDE = 96


def stack(noise: float = 0.01) -> tuple[torch.Tensor, torch.Tensor]:
    """A sharp (1, 3, Y, X) texture, and two planes of it that are blurred differently."""
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 1, SIDE, SIDE, generator=generator)
    sharp = 0.2 + 0.6 * (blur(sharp, 1.0) * 4 - 1.5).clamp(0, 1).expand(1, 3, SIDE, SIDE)
    planes = torch.stack([blur(sharp, 2.0), blur(sharp, 4.0)], dim=1)
    return sharp, planes + noise * torch.randn(planes.shape, generator=generator)


def test_a_selection_infers_nothing() -> None:
    sharp, planes = stack()
    both = torch.cat([planes, sharp[:, None]], dim=1)
    half = SIDE // 2
    picked = torch.cat([sharp[..., :half], planes[:, 0, ..., half:]], dim=-1)
    assert float(inferred_share(both, picked).max()) < 0.05
    assert float(inferred_share(both, both.mean(dim=1)).max()) < 0.05


def test_made_detail_shows_where_it_was_made() -> None:
    sharp, planes = stack(noise=0.0)
    half = SIDE // 2
    made = torch.cat([sharp[..., :half], planes[:, 0, ..., half:]], dim=-1)
    share = inferred_share(planes, made)[0]
    assert float(share[:, : half - REACH].median()) > 0.3
    assert float(share[:, half + REACH :].max()) < 0.05


def test_doubled_contrast_and_empty_fields_are_recovered() -> None:
    _, planes = stack()
    plane = planes[:, :1]
    doubled = plane[:, 0] + 0.9 * (plane[:, 0] - blur(plane[:, 0], 8.0))
    assert float(inferred_share(plane, doubled).max()) < 0.05
    flat = torch.full((1, 1, 3, SIDE, SIDE), 0.9)
    assert float(inferred_share(flat, flat[:, 0]).max()) == 0


def test_maps_come_with_the_fusion_and_change_no_pixel(tmp_path) -> None:
    save(tmp_path, "swift-three", error_factor=2.0)
    model = str(tmp_path / "swift-three.safetensors")
    slide, region = textured_slide(mpp=(0.25, 0.25)), Region(0, 0, 64, 64)
    plain = fuse(slide, region, "three", model)
    both = fuse(slide, region, "three", model, maps=("inferred", "error"))
    assert np.array_equal(plain.image, both.image)
    assert both.maps["inferred"].dtype == np.uint8
    error = both.maps["error"]
    assert error.dtype == np.float32
    # Nothing learnt: 5 grey levels, doubled by the calibration of its card.
    assert float(np.median(error)) == pytest.approx(2 * 255 * np.exp(-4), rel=0.5)
    assert both.provenance["maps"]["error"]["unit"] == "grey levels"
    assert both.provenance["settings"]["told_mpp"] != "unknown"


def test_a_selection_says_that_it_infers_nothing() -> None:
    plan = planned_selection()
    with pytest.raises(FusionError, match="does not make the map 'inferred'"):
        load_fusion(plan, ("inferred",), "cpu")


def planned_selection():
    from napari_focusfuse.fusion.catalogue import load_method
    from napari_focusfuse.fusion.plan import DEFAULT

    return planned(textured_slide(), load_method("argmax", "cpu"), Region(0, 0, 64, 64), DEFAULT)
