"""Pruning of a run that is a trial of an Optuna study."""

from typing import Any

from lightning import Callback, Trainer

from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback
from unlabeled.errors import UserError


class Pruning(Callback):
    """Reports each validation to the study, and ends the run normally where the study's pruner asks for it.

    Reported is the quantity that best.ckpt is chosen by; steps are epochs. A trial that has ended, whose run is resumed
    by hand, gets no reports.
    """

    def __init__(
        self,
        storage: Any,  # an Optuna storage or the address of one
        study: str,  # its name there
        trial: int | None,  # its number there; None: this run is no trial
        pruner: Any,
    ):
        self.storage, self.study, self.trial, self.pruner = storage, study, trial, pruner
        self.pruned: str | None = None  # "after epoch N", if it was
        self._trial: Any = None  # on rank zero

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        if self.trial is None:
            return
        if callback(trainer, Checkpoints).choice(trainer)[0] is None:
            raise UserError(
                f"{type(method).__name__} has no quantity to compare its runs by: "
                "say callbacks.checkpoints.monitor=val/QUANTITY"
            )
        if trainer.is_global_zero:
            import optuna

            study = optuna.load_study(study_name=self.study, storage=self.storage, pruner=self.pruner)
            self._trial = optuna.trial.Trial(study, study.trials[self.trial]._trial_id)

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        if self.trial is None or trainer.sanity_checking:
            return
        monitor, mode = callback(trainer, Checkpoints).choice(trainer)
        value = callback(trainer, Records).validation.get(monitor or "")
        if value is None:
            return  # not measured this time
        epoch = trainer.current_epoch + 1
        pruned, refused = trainer.strategy.broadcast(self._tell(value, epoch, f"{monitor} is best {mode}", mode))
        if refused:
            raise UserError(refused)
        if pruned and not trainer.should_stop:
            trainer.should_stop = True
            self.pruned = f"after epoch {epoch}"

    def _tell(self, value: float, epoch: int, which: str, mode: str) -> tuple[bool, str | None]:
        """Whether to prune the run; and why the study cannot be told, if it cannot."""
        if self._trial is None:
            return False, None
        direction = "maximize" if mode == "highest" else "minimize"
        if self._trial.study.direction.name.lower() != direction:
            return False, f"{which}: say hydra.sweeper.direction={direction}"
        try:
            self._trial.report(value, epoch)
            pruned = self._trial.should_prune()
            if pruned:
                self._trial.set_user_attr("pruned", epoch)
        except RuntimeError:  # the trial has ended: its run was resumed by hand, or outlived its sweep
            return False, None
        return pruned, None
