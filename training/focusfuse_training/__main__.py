"""Train a model: ``python -m focusfuse_training RECIPE.toml --data DIR --out RUN``."""

from __future__ import annotations

import argparse
import logging
import sys
import tomllib
from pathlib import Path

from napari_focusfuse.slide import FocusFuseError
from napari_focusfuse.training_config import TrainingConfig
from napari_focusfuse.training_run import TrainingRun

from .trainer import TrainingError, train


def main(arguments: list[str] | None = None) -> int:
    """Start or resume a run and return the exit code."""
    parser = argparse.ArgumentParser("focusfuse_training", description=__doc__)
    parser.add_argument(
        "recipe", type=Path, help="a recipe, such as training/recipes/swift-three.toml"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set's images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--cache", type=Path, help="folder for rendered stacks (default: RUN/cache)"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run = TrainingRun(options.out)
    try:
        config = TrainingConfig.read(options.recipe, changes=tomllib.loads("\n".join(options.set)))
        run.create(config)
        train(run, options.data, options.cache or options.out / "cache", accelerator=options.device)
    except (FocusFuseError, TrainingError, tomllib.TOMLDecodeError) as error:
        print(error, file=sys.stderr)  # noqa: T201  (a command's answer)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
