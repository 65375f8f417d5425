"""Removal of work that Lightning repeats needlessly at every batch."""

from contextlib import nullcontext
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.profilers import PassThroughProfiler

HOOKS = (  # that are called at every batch
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
)


class NoProfiler(PassThroughProfiler):
    """No profiling, like Lightning's default, in a tenth of the time; it is called some 70 times a batch."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self.nothing


def skip_idle(trainer: Trainer) -> None:
    """Set hooks that callbacks only inherit to None: Lightning skips those, and would call the others each time."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for hook in HOOKS:
            if getattr(type(callback), hook) is getattr(Callback, hook) and hook not in vars(callback):
                setattr(callback, hook, None)
