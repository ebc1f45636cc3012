"""Work that only the window's thread may do, in pieces between which the window answers."""

from __future__ import annotations

from collections.abc import Iterator

from qtpy.QtCore import QObject, QTimer

PAUSE_MS = 15
"""Time between two pieces, in which what the last one made is laid out and painted."""


def in_turns(owner: QObject, steps: Iterator[None]) -> None:
    """Run a generator from one ``yield`` to the next, each piece in a turn of the event loop.

    Parameters
    ----------
    owner
        Whose work it is: what is left is dropped once this is deleted.
    """
    timer = QTimer(owner)

    def turn(_held: QObject = owner) -> None:
        # The owner is held: a generator that ends may let go of it, and with it of the timer.
        try:
            next(steps)
        except BaseException as end:
            timer.stop()
            timer.deleteLater()
            if not isinstance(end, StopIteration):
                raise

    timer.timeout.connect(turn)
    timer.start(PAUSE_MS)
