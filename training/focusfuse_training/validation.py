"""How good a network is on stacks it never learnt from, in numbers and in pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from napari_focusfuse.pixels import to_uint8
from napari_focusfuse.slide import UInt8Image
from napari_focusfuse.training_config import TrainingConfig

from .focus_pairs import focus_pairs, pair_accuracy
from .learner import Learner
from .losses import ssim
from .masks import UNKNOWN, Confusion
from .patches import Batch, batch_of
from .stack import StackFile

PREVIEWS = 4
"""Stacks shown on a sheet."""
CELL_PX = 256
"""Side of a picture on a sheet."""

Scores = dict[str, float]


@torch.inference_mode()
def validate(
    learner: Learner, files: Sequence[StackFile], config: TrainingConfig, sheet: Path | None
) -> Scores:
    """Score the running mean of the weights; ``error`` is the score to minimise.

    Parameters
    ----------
    sheet
        Where to write a sheet of pictures: each row a stack, input beside output beside reference.
    """
    judge = {"fuse": _judge_images, "segment": _judge_masks, "choose": _judge_pairs}[config.task]
    rows, scores = judge(learner, files, config)
    if sheet is not None:
        sheet.parent.mkdir(exist_ok=True)
        Image.fromarray(np.concatenate(rows)).save(sheet)
    return scores


def _judge_images(
    learner: Learner, files: Sequence[StackFile], config: TrainingConfig
) -> tuple[list[UInt8Image], Scores]:
    rows, found = [], []
    for number, file in enumerate(files):
        batch = _whole(file, learner, config)
        # A network that is lost may give no numbers: black, which scores as ill as it deserves.
        output = learner.restore_mean(batch).image.float().nan_to_num().clamp(0, 1)
        layer = _layer_zero(batch)
        found.append(
            {
                "error": 1 - float(ssim(output, batch.truth)),
                "ssim": float(ssim(output, batch.truth)),
                "input_ssim": float(ssim(layer, batch.truth)),
                "psnr": -10 * math.log10(max(1e-10, float((output - batch.truth).square().mean()))),
                "absolute": float((output - batch.truth).abs().mean()),
            }
        )
        if number < PREVIEWS:
            rows.append(_row(layer, output, batch.truth))
    return rows, {key: float(np.mean([f[key] for f in found])) for key in found[0]}


def _judge_masks(
    learner: Learner, files: Sequence[StackFile], config: TrainingConfig
) -> tuple[list[UInt8Image], Scores]:
    """Score masks by IoU, both classes alike: a loss would judge confidence, not the mask."""
    rows, counts = [], Confusion()
    for number, file in enumerate(files):
        batch = _whole(file, learner, config)
        layer = _layer_zero(batch)
        probability = learner.mean(layer).float().softmax(dim=1)[:, 1]
        truth = batch.blurred.cpu().numpy()
        counts += Confusion.of((probability >= 0.5).cpu().numpy(), truth == 1, truth != UNKNOWN)
        if number < PREVIEWS:
            known = torch.where(batch.blurred == UNKNOWN, 0.5, batch.blurred.float())
            rows.append(_row(layer, _grey(probability), _grey(known)))
    return rows, {
        "error": 1 - 0.5 * (counts.iou + counts.iou_sharp),
        "iou": counts.iou,
        "iou_sharp": counts.iou_sharp,
        "precision": counts.precision,
        "recall": counts.recall,
    }


def _judge_pairs(
    learner: Learner, files: Sequence[StackFile], config: TrainingConfig
) -> tuple[list[UInt8Image], Scores]:
    rows, found = [], []
    for number, file in enumerate(files):
        torch.manual_seed(number)  # the same pairs at every validation
        batch = _whole(file, learner, config)
        found.append(pair_accuracy(learner.mean, batch.truth))
        if number < PREVIEWS:
            pair, _ = focus_pairs(batch.truth)
            first = learner.mean(pair).float().softmax(dim=1)[:, 0]
            shown = functional.interpolate(first[:, None], pair.shape[-2:])[:, 0]
            rows.append(_row(_grey(pair[:, 0]), _grey(pair[:, 1]), _grey(shown)))
    accuracy = float(np.mean(found))
    return rows, {"error": 1 - accuracy, "accuracy": accuracy}


def _whole(file: StackFile, learner: Learner, config: TrainingConfig) -> Batch:
    """Return one stack, cut to the largest square the network takes."""
    multiple = math.lcm(16, int(getattr(learner.mean, "multiple_of", 1)))
    side = min(file.shape) // multiple * multiple
    y, x = ((length - side) // 2 for length in file.shape)
    return batch_of([file.read(y, x, side)], config.planes).to(learner.device)


def _layer_zero(batch: Batch) -> Tensor:
    middle = batch.stacked.shape[1] // 6 * 3
    return batch.stacked[:, middle : middle + 3]


def _grey(mask: Tensor) -> Tensor:
    return mask[:, None].expand(-1, 3, -1, -1)


def _row(*images: Tensor) -> UInt8Image:
    """Return the middles of (1, 3, Y, X) images side by side, each ``CELL_PX`` wide."""
    return np.concatenate([_cell(image) for image in images], axis=1)


def _cell(image: Tensor) -> UInt8Image:
    pixels = to_uint8(image[0].permute(1, 2, 0).cpu().numpy())
    cell = np.full((CELL_PX, CELL_PX, 3), 255, dtype=np.uint8)
    height, width = (min(side, CELL_PX) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    cell[:height, :width] = pixels[top : top + height, left : left + width]
    return cell
