"""A form made from a recipe's fields: what a value is decides what it is edited with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from napari_focusfuse.training_config import Setting, TrainingConfig

from .train_request import SettingField, setting_fields
from .wheel import keep_from_wheel

LARGEST = 2**31 - 1
ROWS_AT_ONCE = 3


class SettingsForm(QWidget):
    """Every setting of a recipe, to be changed."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[str, Callable[[], Setting]] = {}
        self._fields: dict[str, SettingField] = {}
        self.editors: dict[str, Any] = {}
        """The field of each setting, by its key."""
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._add_some)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setVerticalSpacing(3)
        self._form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)

    def clear(self) -> None:
        """Show no recipe, so that nothing is changed."""
        self._timer.stop()
        while self._form.rowCount():
            self._form.removeRow(0)
        self._readers.clear()
        self.editors.clear()

    def show_recipe(self, config: TrainingConfig) -> None:
        """Show the settings of a recipe, as they are in it, a few at a time."""
        self.clear()
        self._fields = {field.key: field for field in setting_fields(config)}
        self._timer.start()

    def _add_some(self) -> None:
        """Add the next fields; all at once would block the window for 0.4 s."""
        missing = [field for key, field in self._fields.items() if key not in self.editors]
        for field in missing[:ROWS_AT_ONCE]:
            editor, self._readers[field.key] = self._edited(field)
            editor.setToolTip(field.help)
            self.editors[field.key] = editor
            self._form.addRow(field.title, editor)
            self._form.labelForField(editor).setToolTip(field.help)
        if len(missing) <= ROWS_AT_ONCE:
            self._timer.stop()

    def changes(self) -> dict[str, Setting]:
        """Return the settings that are not as in the recipe.

        Raises
        ------
        ValueError
            If a number is not one.
        """
        read = {key: reader() for key, reader in self._readers.items()}
        return {key: value for key, value in read.items() if value != self._fields[key].value}

    def _edited(self, field: SettingField) -> tuple[Any, Callable[[], Setting]]:
        """Return an editor for a setting and how its value is read."""
        value = field.value
        if isinstance(value, bool):
            box = QCheckBox()
            box.setChecked(value)
            box.toggled.connect(self.changed)
            return box, box.isChecked
        if isinstance(value, int):
            spin = QSpinBox()
            spin.setRange(0, LARGEST)
            spin.setValue(value)
            keep_from_wheel(spin)
            spin.valueChanged.connect(self.changed)
            return spin, spin.value
        if field.choices:
            choice = QComboBox()
            for word in field.choices:
                choice.addItem(word or "none", word)
            choice.setCurrentIndex(choice.findData(value))
            keep_from_wheel(choice)
            choice.currentIndexChanged.connect(self.changed)
            return choice, choice.currentData
        # Learning rates span decades: a line shows 5e-05, a spin box would show 0.00.
        line = QLineEdit(f"{value:g}" if isinstance(value, float) else value)
        line.editingFinished.connect(self.changed)
        if isinstance(value, float):
            line.setValidator(QDoubleValidator())
            return line, lambda: _number(line.text(), field.title)
        return line, line.text


def _number(text: str, title: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{title} must be a number, such as 0.001, not {text!r}.") from None
