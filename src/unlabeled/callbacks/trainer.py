"""Questions that callbacks and the program ask of a trainer."""

from typing import TypeVar

from lightning import Callback, Trainer

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


def noun(trainer: Trainer) -> str:
    """What the rows of the data are called: images, points, ..."""
    return getattr(trainer.datamodule, "noun", "examples")  # type: ignore[attr-defined]
