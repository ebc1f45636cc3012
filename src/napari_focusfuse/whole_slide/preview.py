"""The blocks that a run has finished so far, as another process may show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_focusfuse.fusion.method import MapInfo
from napari_focusfuse.slide import Region

from .blocks import Block, BlockGrid
from .job import SlideJob
from .journal import Entry, read_entries, read_header, spool_path
from .shares import Output, PartIndex, Pixels, unpack
from .worker import About, make_outputs


@dataclass(frozen=True)
class FinishedPixels:
    """A finished block at a low level."""

    region: Region
    """Where it lies, in pixels of the level that is being fused."""
    downsample: int
    """Pixels of that level for one of :attr:`pixels`."""
    pixels: Pixels
    """(Y, X, 3) uint8, or the (Y, X) values of a map."""


class FinishedBlocks:
    """Reads finished blocks from spool and journal while they grow.

    Parameters
    ----------
    output
        The first output of the job that is being run.
    """

    def __init__(self, output: str | Path) -> None:
        self._path = Path(output)
        self._seen: set[Block] = set()

    def job(self) -> SlideJob | None:
        """Return the job whose work lies beside the output, or None if there is none."""
        header = read_header(self._path)
        return None if header is None else SlideJob.from_json(header["job"])

    def new(self, name: str = "image") -> list[FinishedPixels]:
        """Return the blocks of an output that were finished since the last call."""
        header = read_header(self._path)
        if header is None:
            return []
        job = SlideJob.from_json(header["job"])
        maps = tuple(MapInfo(**values) for values in header["maps"])
        outputs = make_outputs(job, About({}, maps, None, None))
        chosen = next(output for output in outputs if output.name == name)
        grid = BlockGrid(job.region, job.block)
        index = PartIndex(outputs, grid)
        found = []
        for block, entry in read_entries(self._path).items():
            if block not in self._seen:
                found.append(self._read(chosen, index, grid, block, entry))
                self._seen.add(block)
        return [pixels for pixels in found if pixels is not None]

    def _read(
        self, output: Output, index: PartIndex, grid: BlockGrid, block: Block, entry: Entry
    ) -> FinishedPixels | None:
        kept = output.kept(grid.side)
        if not kept:  # so small a result that it has one level
            return None
        level = kept[-1]
        share = grid.share(block, level, *output.spec.levels[level])
        part = index.pixels(output, block, level)
        try:
            with spool_path(self._path).open("rb") as spool:
                spool.seek(entry.offset + sum(entry.sizes[:part]))
                packed = spool.read(entry.sizes[part])
        except OSError:
            return None
        shape = (share.height, share.width, *output.spec.shape(level)[2:])
        pixels = unpack(packed, shape, output.spec.dtype)
        return FinishedPixels(grid.region_of(block), 2**level, pixels)
