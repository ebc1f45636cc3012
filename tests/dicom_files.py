"""DICOM whole-slide images, written element by element with pydicom."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageCms
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from slide_files import Stack, pyramid

WHOLE_SLIDE = UID("1.2.840.10008.5.1.4.1.1.77.1.6")
PATIENT = "Doe^Jane"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _jpeg(tile: Stack) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _jpeg_2000(tile: Stack) -> bytes:
    return imagecodecs.jpeg2k_encode(tile, level=0, mct=False, codecformat="j2k")


def _run_lengths(tile: Stack) -> bytes:
    """Encode without finding runs: each row of each colour in pieces of at most 128 bytes."""
    segments = []
    for colour in range(3):
        body = b""
        for row in tile[..., colour]:
            for start in range(0, len(row), 128):
                part = row[start : start + 128].tobytes()
                body += bytes([len(part) - 1]) + part
        segments.append(body + b"\x80" * (len(body) % 2))
    offsets = np.cumsum([64, *map(len, segments)])[:3]
    head = np.array([3, *offsets, *[0] * 12], "<u4").tobytes()
    return head + b"".join(segments)


ENCODERS: dict[str, tuple[UID, str, Callable[[Stack], bytes]]] = {
    "raw": (ExplicitVRLittleEndian, "RGB", lambda tile: tile.tobytes()),
    "jpeg": (JPEGBaseline8Bit, "YBR_FULL_422", _jpeg),
    "jpeg 2000": (JPEG2000Lossless, "RGB", _jpeg_2000),
    "jpeg-ls": (JPEGLSLossless, "RGB", imagecodecs.jpegls_encode),
    "run lengths": (RLELossless, "RGB", _run_lengths),
}


def cut(plane: Stack, tile: int) -> Iterator[tuple[int, int, Stack]]:
    """Yield the place and pixels of each tile, white beyond the edge, row by row."""
    for y in range(0, plane.shape[0], tile):
        for x in range(0, plane.shape[1], tile):
            out = np.full((tile, tile, 3), 255, np.uint8)
            part = plane[y : y + tile, x : x + tile]
            out[: part.shape[0], : part.shape[1]] = part
            yield y, x, out


def write_dicom(
    folder: Path,
    stack: Stack,
    *,
    levels: int = 2,
    tile: int = 64,
    tiling: str = "full",
    codec: str = "raw",
    heights_um: Sequence[float] = (0.0, 2.7, 5.4),
    origin_um: float | None = None,
    split: str = "",
    missing: Sequence[int] = (),
    fused: Stack | None = None,
    label: Stack | None = None,
    series: str | None = None,
    name: str = "",
    **changes: Any,
) -> Path:
    """Write a slide, one file a level, and return the folder.

    Parameters
    ----------
    tiling
        ``"full"`` writes the planes in their order with a constant step; ``"sparse"`` gives each
        frame its place and height, in an order that is no order.
    split
        ``"planes"`` writes a file for each plane, ``"parts"`` a concatenation of two files.
    missing
        Numbers of frames that a sparse image does not store.
    fused
        An extended focus of the size of a plane.
    changes
        Elements of every file, set at last.
    """
    folder.mkdir(exist_ok=True)
    uids = {"study": generate_uid(), "series": series or generate_uid(), "frame": generate_uid()}
    for level, image in enumerate(pyramid(stack, levels)):
        common = {"uids": uids, "level": level, "tile": tile, "tiling": tiling}
        groups = [[z] for z in range(len(image))] if split == "planes" else [range(len(image))]
        for group in groups:
            heights = [heights_um[z] for z in group]
            start = heights[0] if split == "planes" else origin_um
            parts = 2 if split == "parts" else 1
            datasets = _instances(
                image[list(group)], heights, start, parts, **common, codec=codec, missing=missing
            )
            for part, dataset in enumerate(datasets):
                for key, value in changes.items():
                    setattr(dataset, key, value)
                _save(dataset, folder / f"{name}{level}_{group[0]}_{part}.dcm")
    if fused is not None:
        for level, image in enumerate(pyramid(fused[None], levels)):
            (dataset,) = _instances(
                image, [0.0], None, 1, uids=uids, level=level, tile=tile, tiling="full",
                codec=codec, missing=(),
            )  # fmt: skip
            dataset.ExtendedDepthOfField = "YES"
            dataset.NumberOfFocalPlanes = len(stack)
            dataset.DistanceBetweenFocalPlanes = 0.0027
            _save(dataset, folder / f"{name}fused{level}.dcm")
    if label is not None:
        (dataset,) = _instances(
            label[None], [0.0], None, 1, uids=uids, level=0, tile=max(label.shape[:2]),
            tiling="full", codec=codec, missing=(),
        )  # fmt: skip
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
        _save(dataset, folder / f"{name}label.dcm")
    return folder


def _instances(
    image: Stack,
    heights: Sequence[float],
    origin: float | None,
    parts: int,
    *,
    uids: dict[str, str],
    level: int,
    tile: int,
    tiling: str,
    codec: str,
    missing: Sequence[int],
) -> list[Dataset]:
    syntax, photometric, encode = ENCODERS[codec]
    frames = [
        (y, x, height, encode(pixels))
        for height, plane in zip(heights, image, strict=True)
        for y, x, pixels in cut(plane, tile)
    ]
    if tiling == "sparse":
        order = np.random.default_rng(0).permutation(len(frames))
        frames = [frames[i] for i in order if i not in missing]
    cuts = np.linspace(0, len(frames), parts + 1).astype(int)
    source, concatenation = generate_uid(), generate_uid()
    out = []
    for number in range(parts):
        dataset = _dataset(image, uids, level, tile, tiling, syntax, photometric)
        chosen = frames[cuts[number] : cuts[number + 1]]
        _add_places(dataset, chosen, heights, origin, level, tiling)
        dataset.NumberOfFrames = len(chosen)
        if parts > 1:
            dataset.ConcatenationUID = concatenation
            dataset.SOPInstanceUIDOfConcatenationSource = source
            dataset.ConcatenationFrameOffsetNumber = int(cuts[number])
            dataset.InConcatenationNumber = number + 1
            dataset.InConcatenationTotalNumber = parts
        data = [frame for *_, frame in chosen]
        dataset.PixelData = encapsulate(data) if syntax.is_encapsulated else b"".join(data)
        dataset["PixelData"].VR = "OB"
        out.append(dataset)
    return out


def _dataset(
    image: Stack,
    uids: dict[str, str],
    level: int,
    tile: int,
    tiling: str,
    syntax: UID,
    photometric: str,
) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = WHOLE_SLIDE
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
    dataset.FrameOfReferenceUID = uids["frame"]
    dataset.PatientName, dataset.PatientID = PATIENT, "0815"
    dataset.Modality, dataset.Manufacturer = "SM", "nobody"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE" if level == 0 else "RESAMPLED"]
    dataset.Rows = dataset.Columns = tile
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = image.shape[1:3]
    dataset.TotalPixelMatrixFocalPlanes = len(image)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PhotometricInterpretation = photometric
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = 0.08, 0.064
    dataset.ImagedVolumeDepth = 0.001
    dataset.DimensionOrganizationType = f"TILED_{tiling.upper()}"
    dataset.NumberOfOpticalPaths = 1
    path = Dataset()
    path.OpticalPathIdentifier, path.ObjectiveLensPower = "1", 40
    path.ICCProfile = PROFILE
    dataset.OpticalPathSequence = Items([path])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = WHOLE_SLIDE
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _add_places(
    dataset: Dataset,
    frames: Sequence[tuple[int, int, float, bytes]],
    heights: Sequence[float],
    origin: float | None,
    level: int,
    tiling: str,
) -> None:
    measures = Dataset()
    measures.PixelSpacing = [0.0005 * 2**level, 0.00025 * 2**level]
    measures.SliceThickness = 0.001
    if tiling == "full" and len(heights) > 1:
        measures.SpacingBetweenSlices = (heights[1] - heights[0]) / 1000
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([measures])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    place = Dataset()
    place.XOffsetInSlideCoordinateSystem = place.YOffsetInSlideCoordinateSystem = 10.0
    if origin is not None:
        place.ZOffsetInSlideCoordinateSystem = origin
    dataset.TotalPixelMatrixOriginSequence = Items([place])
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    if tiling == "sparse":
        groups = []
        for y, x, height, _ in frames:
            position = Dataset()
            position.ColumnPositionInTotalImagePixelMatrix = x + 1
            position.RowPositionInTotalImagePixelMatrix = y + 1
            position.XOffsetInSlideCoordinateSystem = position.YOffsetInSlideCoordinateSystem = 0.0
            position.ZOffsetInSlideCoordinateSystem = height
            group = Dataset()
            group.PlanePositionSlideSequence = Items([position])
            groups.append(group)
        dataset.PerFrameFunctionalGroupsSequence = Items(groups)


def _save(dataset: Dataset, path: Path) -> None:
    dataset.save_as(path, enforce_file_format=True)
