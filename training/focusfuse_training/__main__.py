"""Train a model: ``python -m focusfuse_training RECIPE --data PATH --out RUN``, or ``... RUN``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_config import RecipeError, TrainingConfig, recipes
from napari_focusfuse.training_run import TrainingRun

from .data_source import training_data
from .trainer import TrainingError, train


def main(arguments: list[str] | None = None) -> int:
    """Start or resume a run and return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        run = _run(options)
        _log_to(run.text_log)
        train(run, device=options.device)
    except (FocusFuseError, TrainingError) as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return getattr(error, "exit_code", 4)
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("focusfuse_training", description=__doc__)
    parser.add_argument("recipe", help="a recipe's name or file, or the folder of a run to go on")
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="folder of the data set's images, a slide, a folder of slides, or a slides.toml",
    )
    parser.add_argument("--cache", type=Path, help="folder for patches (default: RUN/cache)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


def _run(options: argparse.Namespace) -> TrainingRun:
    """Return the run to train, made if it is new."""
    if (Path(options.recipe) / "config.toml").is_file():
        return TrainingRun(Path(options.recipe))
    if options.out is None:
        raise RecipeError(
            f"{options.recipe} is no run to go on with; say with --out where a new one shall be."
        )
    path = recipes().get(options.recipe, Path(options.recipe))
    run = TrainingRun(options.out)
    config = TrainingConfig.read(path, changes=_changes(options.set))
    run.create(config, training_data(options.data, options.cache, config.data_set))
    return run


def _changes(settings: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` as TOML; a bare word will do for a string."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            table = tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            try:
                table = tomllib.loads(f'{key} = "{value}"')
            except tomllib.TOMLDecodeError:
                raise RecipeError(f"--set {setting} must be KEY=VALUE.") from None
        for name, found in table.items():
            if isinstance(found, dict):  # network.width=8
                changes[name] = {**changes.get(name, {}), **found}
            else:
                changes[name] = found
    return changes


def _log_to(path: Path) -> None:
    """Write the log into the run, unless that is where this process' words go anyway."""
    if path.exists() and os.path.samestat(os.fstat(2), path.stat()):
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
