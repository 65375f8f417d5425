"""Accessors of a trainer's callbacks, data and state."""

from typing import TypeVar

from lightning import Callback, Trainer

from unlabeled.data.protocols import DataModule, TrainingBatches
from unlabeled.errors import UserError

C = TypeVar("C", bound=Callback)


def callbacks(trainer: Trainer, kind: type[C]) -> list[C]:
    """The trainer's callbacks of a kind."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def callback(trainer: Trainer, kind: type[C]) -> C:
    """The trainer's first callback of a kind. Raises UserError where there is none."""
    for found in callbacks(trainer, kind):
        return found
    raise UserError(f"callbacks without {kind.__name__}: a run needs it, leave callbacks.{kind.__name__.lower()} in")


def is_ending(trainer: Trainer) -> bool:
    """Whether the batch or validation at hand is the last: the budget is spent, or the run was given up."""
    return trainer.should_stop


def data_of(trainer: Trainer) -> DataModule:
    """The data that is trained on."""
    return trainer.datamodule  # type: ignore[attr-defined]


def loader_of(trainer: Trainer) -> TrainingBatches:
    """The training batches."""
    return trainer.train_dataloader  # type: ignore[return-value]
