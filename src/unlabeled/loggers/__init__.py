"""Loggers: the destinations of recorded quantities, pictures and files.

Importing one registers all, so that `actions` know each kind.
"""

from unlabeled.loggers import csv, mlflow, tensorboard, wandb

__all__ = ["csv", "mlflow", "tensorboard", "wandb"]
