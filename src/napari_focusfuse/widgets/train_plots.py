"""The live curves of a run: loss and validation score over the steps."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from superqt.utils import create_worker

from .run_log import Curve, RunLog, log_ticks, running_mean

HEIGHT = 118
LOSS_COLOUR = "#4c9be8"
SCORE_COLOUR = "#5fc97e"
INPUT_COLOUR = "#9a9a9a"


class TrainPlots(QWidget):
    """Two small plots, one above the other.

    pyqtgraph is imported by a worker when a run is shown for the first time: it takes half a second
    in which the window would stand still.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pyqtgraph: Any = None
        self._log: RunLog | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.setFixedHeight(2 * HEIGHT + 2)
        create_worker(
            import_module,
            "pyqtgraph",
            _connect={"returned": self._build, "errored": self._on_error},
        )

    @property
    def ready(self) -> bool:
        """Whether the plots are there."""
        return self._pyqtgraph is not None

    def _build(self, pyqtgraph: Any) -> None:
        self._pyqtgraph = pyqtgraph
        self.loss = self._plot("loss", logarithmic=True)
        self.score = self._plot("score", logarithmic=False)
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
        for plot in (self.loss, self.score):
            self.layout().addWidget(plot)
        if self._log is not None:
            self.show_log(self._log)

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

    def _plot(self, title: str, *, logarithmic: bool) -> Any:
        colour = self.palette().color(QPalette.ColorRole.WindowText)
        plot = self._pyqtgraph.PlotWidget(background=None)
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
