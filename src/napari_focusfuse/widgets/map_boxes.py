"""A box for each map that can come with a fusion."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_focusfuse.fusion.maps import CONFIDENCE, DEPTH
from napari_focusfuse.fusion.method import ERROR, INFERRED, MASK
from napari_focusfuse.layer_metadata import INFERRED_COLOUR, MASK_COLOUR

from .fusion_job import FusionJob

_BOXES = {
    MASK.name: ("Blur mask", "Show in red where the slider's layer is blurred (Shift-M)"),
    INFERRED.name: (
        "Inferred",
        "Show in violet where the next fusion makes detail that no layer holds (models only)",
    ),
    ERROR.name: ("Error", "Tell how far the next fusion may be off, in grey levels (models only)"),
    DEPTH: ("Depth", "Measure at which height each pixel is in focus, with the next fusion"),
    CONFIDENCE: ("Confidence", "Tell how sure each depth is, with the next fusion"),
}


_ROWS = ((MASK.name, INFERRED.name, ERROR.name), (DEPTH, CONFIDENCE))
_SWATCHES = {MASK.name: MASK_COLOUR, INFERRED.name: INFERRED_COLOUR}
"""Maps of one colour."""


class MapBoxes(QWidget):
    """Follows which maps the job shows, and tells it.

    Parameters
    ----------
    job
        Whose maps they are.
    """

    def __init__(self, job: FusionJob) -> None:
        super().__init__()
        self._job = job
        self.boxes = {name: QCheckBox(title) for name, (title, _) in _BOXES.items()}
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for names in _ROWS:
            row = QHBoxLayout()
            for name in names:
                row.addWidget(self.boxes[name])
                if name in _SWATCHES:
                    row.addWidget(_swatch(_SWATCHES[name]))
                    row.addSpacing(8)
            row.addStretch()
            rows.addLayout(row)
        for name, box in self.boxes.items():
            box.setToolTip(_BOXES[name][1])
            box.setChecked(name in job.shown_maps)
            box.toggled.connect(lambda shown, name=name: job.show_map(name, shown))
        job.map_shown.connect(self._on_shown)

    def disconnect_job(self) -> None:
        """Stop following the job."""
        self._job.map_shown.disconnect(self._on_shown)

    def _on_shown(self, name: str, shown: bool) -> None:
        if name in self.boxes:
            self.boxes[name].setChecked(shown)


def _swatch(colour: tuple[float, float, float]) -> QLabel:
    swatch = QLabel()
    swatch.setFixedSize(12, 12)
    red, green, blue = (round(255 * channel) for channel in colour)
    swatch.setStyleSheet(f"background: rgb({red}, {green}, {blue}); border-radius: 2px;")
    return swatch
