"""A combo box of the viewer's layers that keeps itself up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from ._compat import image_layers


class LayerChoice(QComboBox):
    """Layers that a rule accepts, top one first; entries may be put before them.

    Parameters
    ----------
    viewer
        The viewer whose layers are offered.
    accepts
        Which layers are offered.
    kind
        Layers of the viewer among which they are: its images, if not said otherwise.
    """

    layer_changed = Signal()
    """Another layer is chosen, or the chosen one is gone."""

    def __init__(
        self,
        viewer: Any,
        accepts: Callable[[Any], bool],
        parent: QWidget | None = None,
        kind: Callable[[Any], Sequence[Any]] = image_layers,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._accepts = accepts
        self._kind = kind
        self._layers: list[Any] = []
        self._chosen: Any = None
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        events = viewer.layers.events
        self._sources = (events.inserted, events.removed, events.reordered, events.renamed)
        for source in self._sources:
            source.connect(self.refresh)
        self.currentIndexChanged.connect(self._on_index_changed)
        self.refresh()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        for source in self._sources:
            source.disconnect(self.refresh)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self._chosen

    def choose(self, layer: Any) -> None:
        """Choose a layer; nothing happens if it is not offered."""
        for index, offered in enumerate(self._layers):
            if offered is layer:
                self.setCurrentIndex(index)

    def refresh(self, event: Any = None) -> None:
        """Offer what the viewer holds now; the choice stays if it still exists."""
        layers = [layer for layer in self._kind(self._viewer) if self._accepts(layer)]
        index = next((i for i, layer in enumerate(layers) if layer is self._chosen), -1)
        self.blockSignals(True)
        self.clear()
        self._layers = layers
        self.addItems([layer.name for layer in layers])
        self.setCurrentIndex(index if index >= 0 or not layers else 0)
        self.blockSignals(False)
        self._on_index_changed(self.currentIndex())

    def _on_index_changed(self, index: int) -> None:
        layer = self._layers[index] if 0 <= index < len(self._layers) else None
        self.setToolTip("" if layer is None else layer.name)
        if layer is not self._chosen:
            self._chosen = layer
            self.layer_changed.emit()
