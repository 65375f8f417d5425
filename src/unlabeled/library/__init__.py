"""Unlabeled as a library: what train.py and evaluate.py do, in a notebook."""

from unlabeled.library.images import grid
from unlabeled.library.run import Run, datasets, load, models, train

__all__ = ["Run", "datasets", "grid", "load", "models", "train"]
