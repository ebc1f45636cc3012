"""The form of a new training: from what, what, how, where to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_config import TrainingConfig

from .known_runs import known_runs
from .message import Message
from .settings_form import SettingsForm
from .train_estimate import estimate
from .train_request import (
    WHAT_TITLES,
    TrainRequest,
    What,
    blur_models,
    free_folder,
    offered_recipes,
    with_settings,
)
from .train_slides import SlideList
from .wheel import keep_from_wheel

DEVICES = {"auto": "the fastest", "cpu": "processor", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}
RUNS_FOLDER = "focusfuse-runs"


class TrainForm(QWidget):
    """Makes a :class:`~.train_request.TrainRequest`; holds no rules of its own.

    Parameters
    ----------
    viewer
        Where the open slides are.
    """

    started = Signal(object)
    """The user wants this :class:`~.train_request.TrainRequest` trained."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._recipes: tuple[TrainingConfig, ...] = ()
        self._filled: TrainingConfig | None = None
        self._named = False
        self._build(viewer)
        self._connect()
        self._on_what()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self.slides.disconnect_viewer()

    # ------------------------------------------------------------------ looks

    def _build(self, viewer: Any) -> None:
        self.what_box, self.recipe_box, self.device_box = QComboBox(), QComboBox(), QComboBox()
        self.blur_box = QComboBox()
        for box in (self.what_box, self.recipe_box, self.device_box, self.blur_box):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            keep_from_wheel(box)
        for what, title in WHAT_TITLES.items():
            self.what_box.addItem(title, what)
        for device, title in DEVICES.items():
            self.device_box.addItem(title, device)
        self.what_box.setToolTip("What the model takes, or that it marks blur")
        self.blur_box.setToolTip("Whose blur masks the generator takes beside each focus layer")
        self.slides = SlideList(viewer)
        self.images_line, self.folder_line = QLineEdit(), QLineEdit()
        self.images_line.setPlaceholderText("none")
        self.images_line.setToolTip("Defocus is simulated from them: no focus layers are needed")
        self.folder_line.setToolTip("A folder of its own for this training")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(6)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("For", self.what_box)
        form.addRow("Recipe", self.recipe_box)
        self.blur_label = QLabel("Blur model")
        form.addRow(self.blur_label, self.blur_box)
        form.addRow("Slides", self.slides)
        form.addRow("Images", self._folder_row(self.images_line, "Folder of sharp images"))
        form.addRow("Save in", self._folder_row(self.folder_line, "Folder of the run"))
        form.addRow("Device", self.device_box)
        self.settings = SettingsForm()
        self.advanced = QCollapsible("Advanced")
        self.advanced.addWidget(self.settings)
        self.advanced.setDuration(0)
        self.estimate = Message("estimate")
        self.button = QPushButton("Start training")
        self.button.setMinimumHeight(32)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(form)
        for widget in (self.advanced, self.estimate, self.button):
            layout.addWidget(widget)
        layout.addStretch()

    def _folder_row(self, line: QLineEdit, title: str) -> QHBoxLayout:
        def ask() -> None:
            name = QFileDialog.getExistingDirectory(self, title, line.text())
            if name:
                line.setText(name)
                line.textEdited.emit(name)

        button = QPushButton("…")
        button.setFixedWidth(32)
        button.setToolTip(title)
        button.clicked.connect(ask)
        row = QHBoxLayout()
        row.addWidget(line, 1)
        row.addWidget(button)
        return row

    def _connect(self) -> None:
        self.what_box.currentIndexChanged.connect(self._on_what)
        self.recipe_box.currentIndexChanged.connect(self._on_recipe)
        self.folder_line.textEdited.connect(self._on_named)
        self.images_line.textChanged.connect(self.update_estimate)
        self.device_box.currentIndexChanged.connect(self.update_estimate)
        self.blur_box.currentIndexChanged.connect(self.update_estimate)
        self.slides.changed.connect(self.update_estimate)
        self.settings.changed.connect(self.update_estimate)
        self.advanced.toggled.connect(self._fill_settings)
        self.button.clicked.connect(self.start)

    # ------------------------------------------------------------------ what was chosen

    @property
    def what(self) -> What:
        """What is to be trained."""
        return self.what_box.currentData()

    @property
    def recipe(self) -> TrainingConfig:
        """The recipe that was chosen, as it came."""
        return self._recipes[max(0, self.recipe_box.currentIndex())]

    def choose(self, what: What, recipe: str = "") -> None:
        """Choose what to train, and a recipe by its name."""
        self.what_box.setCurrentIndex(self.what_box.findData(what))
        names = [config.name for config in self._recipes]
        if recipe in names:
            self.recipe_box.setCurrentIndex(names.index(recipe))

    def config(self) -> TrainingConfig:
        """Return the recipe with what was changed in the fold.

        Raises
        ------
        RecipeError, ValueError
            If a value is impossible.
        """
        changes = self.settings.changes()
        if self.recipe.blur_model:
            changes["blur_model"] = self.blur_box.currentData()
        return with_settings(self.recipe, changes)

    def request(self) -> TrainRequest:
        """Return what was chosen.

        Raises
        ------
        RecipeError, ValueError
            If a value is impossible.
        """
        images = self.images_line.text().strip()
        return TrainRequest(
            config=self.config(),
            slides=self.slides.slides(),
            images=Path(images) if images else None,
            folder=Path(self.folder_line.text().strip()).expanduser(),
            device=self.device_box.currentData(),
        )

    def start(self) -> None:
        """Start, if all is said that must be."""
        self.update_estimate()
        if self.button.isEnabled():
            self.started.emit(self.request())

    def suggest_folder(self) -> None:
        """Name a folder that does not exist yet, unless the user named one."""
        if not self._named:
            folder = free_folder(Path.home() / RUNS_FOLDER, self.recipe.name)
            self.folder_line.setText(str(folder))

    def new_run(self) -> None:
        """Make the form ready for another run."""
        self._named = False
        self.suggest_folder()
        self._offer_blur_models()
        self.update_estimate()

    def update_estimate(self) -> None:
        """Say how long it takes and what it needs, or what is missing."""
        try:
            request = self.request()
        except (FocusFuseError, ValueError) as error:
            self._refuse(str(error))
            return
        problem = self.slides.problem(self.what)
        if problem:
            self._refuse(problem)
        elif not request.slides and request.images is None:
            self.estimate.say("Open or add a slide, or choose a folder of sharp images.")
            self.button.setEnabled(False)
        else:
            images = request.images is not None
            self.estimate.say(
                estimate(request.config, request.device, len(request.slides), images=images)
            )
            self.button.setEnabled(True)

    def _refuse(self, why: str) -> None:
        self.estimate.warn(why)
        self.button.setEnabled(False)

    def _on_what(self) -> None:
        self._recipes = offered_recipes(self.what)
        self.recipe_box.blockSignals(True)
        self.recipe_box.clear()
        for config in self._recipes:
            self.recipe_box.addItem(f"{config.title} · {config.name}", config.name)
        self.recipe_box.blockSignals(False)
        self._on_recipe()

    def _on_recipe(self) -> None:
        self.recipe_box.setToolTip(self.recipe_box.currentText())
        self._filled = None
        self.settings.clear()
        self._offer_blur_models()
        self._fill_settings()
        self.suggest_folder()
        self.update_estimate()

    def _offer_blur_models(self) -> None:
        wanted = bool(self.recipe.blur_model)
        self.blur_label.setVisible(wanted)
        self.blur_box.setVisible(wanted)
        if not wanted:
            return
        self.blur_box.blockSignals(True)
        self.blur_box.clear()
        for name, title in blur_models(known_runs()).items():
            self.blur_box.addItem(title, name)
        self.blur_box.blockSignals(False)

    def _fill_settings(self) -> None:
        """Show the recipe's settings once somebody unfolds them: fifty fields take a moment."""
        if self.advanced.isExpanded() and self._filled is not self.recipe:
            self._filled = self.recipe
            self.settings.show_recipe(self.recipe)

    def _on_named(self) -> None:
        self._named = True
        self.update_estimate()
