"""Blocks on one machine: threads decode, one thread fuses, threads encode.

decode threads -> a few tiles ahead -> network (the thread that iterates) -> encode threads
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from napari_focusfuse.fusion.canvas import Canvas
from napari_focusfuse.slide import FocusFuseError, UInt8Image
from napari_focusfuse.tiles import Tile

from .worker import BlockWorker, FinishedBlock, Task, notes_of

Outcome = tuple[Task, FinishedBlock | FocusFuseError]
"""A task, and what came of it."""
Step = Outcome | None
"""What came of a task; None after a tile, so that who iterates can look up in between."""


@dataclass
class Stages:
    """Seconds spent: of decoding and encoding those of the processor, else those of the clock."""

    decode: float = 0.0
    wait: float = 0.0
    """The network had nothing to do, because no tile was there yet."""
    fuse: float = 0.0
    encode: float = 0.0


class _Block:
    """A task in the making."""

    def __init__(self, worker: BlockWorker, task: Task) -> None:
        self.worker, self.task = worker, task
        self.tiles = worker.tiles(task.block)
        self.error: FocusFuseError | None = None
        self._canvas: Canvas | None = None

    @property
    def canvas(self) -> Canvas:
        """Made when the first tile is there: blocks ahead must not take memory."""
        if self._canvas is None:
            self._canvas = self.worker.canvas(self.task.block)
        return self._canvas

    def add_empty(self) -> None:
        """Fill in the tiles that are not fused."""
        for tile in self.tiles:
            if tile in self.task.empty:
                self.canvas.add(tile, self.worker.values(self.task.empty[tile]))


_Request = tuple[_Block, Tile | None, Future[UInt8Image] | None]
"""A tile that is being read; None behind a block's last one."""


class LocalPipeline:
    """Runs tasks one after the other, the stages of several tiles at once.

    Parameters
    ----------
    worker
        What fuses.
    threads
        Threads that decode, and as many that encode; None: a quarter of the cores each, because on
        a CPU the network needs the others, and at most 4, because each holds tiles in memory.
    """

    def __init__(self, worker: BlockWorker, threads: int | None = None) -> None:
        self._worker = worker
        self._threads = threads or min(max(1, (os.cpu_count() or 1) // 4), 4)
        self.stages = Stages()

    def run(self, tasks: Iterable[Task]) -> Generator[Step, None, None]:
        """Yield what came of each task; can be closed at any time."""
        decoders = ThreadPoolExecutor(self._threads, "decode")
        encoders = ThreadPoolExecutor(self._threads, "encode")
        encoding: deque[tuple[Task, Future[FinishedBlock]]] = deque()
        try:
            for block in self._fused(self._ahead(tasks, decoders)):
                if block is None:
                    yield None
                    continue
                if block.error is not None:
                    yield block.task, block.error
                    continue
                encoding.append((block.task, encoders.submit(self._encode, block)))
                while encoding and (encoding[0][1].done() or len(encoding) > self._threads):
                    yield _outcome(*encoding.popleft())
            while encoding:
                yield _outcome(*encoding.popleft())
        finally:
            decoders.shutdown(cancel_futures=True)
            encoders.shutdown(cancel_futures=True)

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent in each stage so far."""
        return {stage: round(spent, 3) for stage, spent in vars(self.stages).items()}

    def _ahead(self, tasks: Iterable[Task], decoders: ThreadPoolExecutor) -> Iterator[_Request]:
        """Yield tiles in order while the next few are being read."""
        window: deque[_Request] = deque()
        for block in (_Block(self._worker, task) for task in tasks):
            for tile in block.tiles:
                if tile not in block.task.empty:
                    window.append((block, tile, decoders.submit(self._decode, tile)))
                # One tile more than there are decoders keeps them busy.
                while len(window) > self._threads + 1:
                    yield window.popleft()
            window.append((block, None, None))
        yield from window

    def _fused(self, requests: Iterator[_Request]) -> Iterator[_Block | None]:
        """Fuse tiles as they come; yield None after each, a block when it has all, or failed."""
        for block, tile, stack in requests:
            if tile is None or stack is None:
                if block.error is None:
                    block.add_empty()
                yield block
            elif block.error is None:
                try:
                    self._fuse(block, tile, stack)
                except FocusFuseError as error:
                    block.error = error
                yield None

    def _fuse(self, block: _Block, tile: Tile, stack: Future[UInt8Image]) -> None:
        asked = time.perf_counter()
        pixels = stack.result()
        begun = time.perf_counter()
        block.canvas.add(tile, self._worker.fuse(pixels))
        self.stages.wait += begun - asked
        self.stages.fuse += time.perf_counter() - begun

    def _decode(self, tile: Tile) -> UInt8Image:
        begun = time.thread_time()
        stack = self._worker.read(tile)
        self.stages.decode += time.thread_time() - begun
        return stack

    def _encode(self, block: _Block) -> FinishedBlock:
        begun = time.thread_time()
        parts = self._worker.encode(block.task.block, block.canvas)
        self.stages.encode += time.thread_time() - begun
        return FinishedBlock(block.task.block, parts, notes_of(block.tiles, block.task))


def _outcome(task: Task, encoded: Future[FinishedBlock]) -> Outcome:
    try:
        return task, encoded.result()
    except FocusFuseError as error:
        return task, error
