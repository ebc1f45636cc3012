"""The dock FocusFuse: a common header, a tab for each task, a footer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari.viewer
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from ._compat import scale_bar
from .compare_tab import CompareTab
from .fuse_tab import FuseTab
from .fusion_job import fusion_job
from .header import Header
from .slide_source import ours
from .slide_tab import SlideTab
from .train_tab import TrainTab

FOOTER = "Research use only"
WIDTH = 320


class FocusFuseDock(QWidget):
    """What the plugin adds to the window.

    Closing it cancels a running fusion.  What is done, and whether the mask is wanted, stays with
    the viewer's :class:`~.fusion_job.FusionJob`, to which a dock opened later attaches.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._attached = True
        self._bar_shown = False
        self.job = job = fusion_job(viewer)
        self.header = Header(viewer)
        self.fuse_tab = FuseTab(viewer, self.header, job)
        self.compare_tab = CompareTab(viewer)
        self.slide_tab = SlideTab(viewer, self.header, job)
        self.train_tab = TrainTab(viewer, self.header, job)
        self.tabs = QTabWidget()
        self._build()
        self._keys: dict[str, Callable[[Any], None]] = {
            "Shift-F": lambda _viewer: self.fuse_tab.fuse_or_cancel(),
            "Shift-M": lambda _viewer: self.fuse_tab.mask_box.toggle(),
            "Shift-B": lambda _viewer: job.blink(),
        }
        for key, pressed in self._keys.items():
            viewer.bind_key(key, pressed, overwrite=True)
        self.header.changed.connect(self._show_scale_bar)
        self._show_scale_bar()
        # A closing window deletes its docks without telling them; the job must not outlive it.
        self.destroyed.connect(lambda _gone=None: job.stop())

    def _build(self) -> None:
        tabs = {
            "Fuse": self.fuse_tab,
            "Compare": self.compare_tab,
            "Whole slide": self.slide_tab,
            "Train": self.train_tab,
        }
        for title, tab in tabs.items():
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setFrameShape(QFrame.Shape.NoFrame)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            area.setWidget(tab)
            self.tabs.addTab(area, title)
        footer = QLabel(FOOTER)
        footer.setAlignment(Qt.AlignmentFlag.AlignCenter)
        footer.setEnabled(False)
        said: dict[str, str] = {}

        def tell(tab: str, news: str) -> None:
            said[tab] = news
            footer.setText(" · ".join([FOOTER, *(words for words in said.values() if words)]))

        self.train_tab.news.connect(lambda news: tell("Train", news))
        self.slide_tab.news.connect(lambda news: tell("Whole slide", news))
        layout = QVBoxLayout(self)
        for widget in (self.header, self.tabs, footer):
            layout.addWidget(widget)
        layout.setStretch(1, 1)
        self.setMinimumWidth(WIDTH)

    def choose_tab(self, title: str) -> None:
        """Bring the tab of this title to the front."""
        for index in range(self.tabs.count()):
            if self.tabs.tabText(index) == title:
                self.tabs.setCurrentIndex(index)

    def event(self, event: Any) -> bool:
        """Notice the x of the dock: it takes this widget out of the window without closing it."""
        handled = super().event(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._detach()
        return bool(handled)

    def _detach(self) -> None:
        if not self._attached:
            return
        self._attached = False
        for key in self._keys:
            self._viewer.bind_key(key, None)
        self.fuse_tab.disconnect_viewer()
        self.compare_tab.disconnect_viewer()
        self.slide_tab.disconnect_viewer()
        self.train_tab.disconnect_viewer()
        self.header.disconnect_viewer()
        self.job.cancel()
        self.deleteLater()

    def _show_scale_bar(self) -> None:
        """Turn the scale bar on with the first slide; from then on it is the user's."""
        layer = self.header.layer
        if layer is not None and "slide" in ours(layer) and not self._bar_shown:
            self._bar_shown = True
            scale_bar(self._viewer).visible = True
