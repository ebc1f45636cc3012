"""The live curves of a run: loss and validation score over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from superqt.utils import create_worker

from .run_log import Curve, RunLog, log_ticks, running_mean
from .turns import in_turns

HEIGHT = 118
LOSS_COLOUR = "#4c9be8"
SCORE_COLOUR = "#5fc97e"
INPUT_COLOUR = "#9a9a9a"


class TrainPlots(QWidget):
    """Two small plots, one above the other.

    pyqtgraph is imported by a worker, as it takes half a second, and the plots are made one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready = False
        """Whether the plots are there."""
        self._log: RunLog | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.setFixedHeight(2 * HEIGHT + 2)
        create_worker(
            import_module,
            "pyqtgraph",
            _connect={"returned": self._on_imported, "errored": self._on_error},
        )

    def _on_imported(self, pyqtgraph: Any) -> None:
        in_turns(self, self._build(pyqtgraph))

    def _build(self, pyqtgraph: Any) -> Iterator[None]:
        self.loss = self._plot(pyqtgraph, "loss", logarithmic=True)
        self.layout().addWidget(self.loss)
        yield
        self.score = self._plot(pyqtgraph, "score", logarithmic=False)
        self.layout().addWidget(self.score)
        yield
        self._add_curves(pyqtgraph)
        self.ready = True
        yield
        if self._log is not None:
            self.show_log(self._log)

    def _add_curves(self, pyqtgraph: Any) -> None:
        faint = pyqtgraph.mkColor(LOSS_COLOUR)
        faint.setAlpha(90)
        self.noisy_curve = self.loss.plot(pen=pyqtgraph.mkPen(faint, width=1))
        self.loss_curve = self.loss.plot(pen=pyqtgraph.mkPen(LOSS_COLOUR, width=2))
        self.score_curve = self.score.plot(
            pen=pyqtgraph.mkPen(SCORE_COLOUR, width=1.5),
            symbol="o",
            symbolSize=7,
            symbolPen=None,
            symbolBrush=SCORE_COLOUR,
        )
        dashed = pyqtgraph.mkPen(INPUT_COLOUR, width=1, style=Qt.PenStyle.DashLine)
        self.input_line = pyqtgraph.InfiniteLine(
            angle=0,
            pen=dashed,
            label="untouched",
            labelOpts={"position": 0.88, "color": INPUT_COLOUR, "anchors": [(0.5, 0), (0.5, 1)]},
        )
        self.score.addItem(self.input_line)

    def _on_error(self, error: Exception) -> None:
        self.layout().addWidget(QLabel(f"No curves: {error}"))

    def show_log(self, log: RunLog) -> None:
        """Draw what the log holds, at once or as soon as the plots are there."""
        self._log = log
        if not self.ready:
            return
        self._show_loss(log.loss)
        self.score_curve.setData(*log.score.points())
        self.score.setLabel("left", log.score_title)
        for plot in (self.loss, self.score):
            plot.setXRange(0, log.steps, padding=0.02)
        self.input_line.setVisible(log.input_score is not None and bool(log.score.values))
        if log.input_score is not None:
            self.input_line.setValue(log.input_score)
            known = (*log.score.values, log.input_score)
            room = max(0.002, 0.15 * (max(known) - min(known)))
            self.score.setYRange(min(known) - room, max(known) + room, padding=0)
        else:
            self.score.enableAutoRange("y")

    def _show_loss(self, curve: Curve) -> None:
        points = [(step, loss) for step, loss in zip(*curve.points(), strict=True) if loss > 0]
        steps, losses = [step for step, _ in points], np.array([loss for _, loss in points])
        self.noisy_curve.setData(steps, losses)
        self.loss_curve.setData(steps, running_mean(losses))
        if points:
            ticks = [(math.log10(v), f"{v:g}") for v in log_ticks(losses.min(), losses.max())]
            self.loss.getAxis("left").setTicks([ticks, []])

    def _plot(self, pyqtgraph: Any, title: str, *, logarithmic: bool) -> Any:
        colour = self.palette().color(QPalette.ColorRole.WindowText)
        plot = pyqtgraph.PlotWidget(background=None)
        plot.setFixedHeight(HEIGHT)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(x=False, y=False)
        plot.hideButtons()
        plot.setLogMode(y=logarithmic)
        plot.showGrid(x=False, y=True, alpha=0.15)
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.setPen(colour)
            axis.setTextPen(colour)
        plot.getAxis("left").setWidth(58)  # both curves begin at the same place
        plot.getAxis("left").enableAutoSIPrefix(False)
        plot.setLabel("left", title)
        return plot
