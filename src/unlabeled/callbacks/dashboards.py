"""Config, best values and final checkpoint of a run, sent to its loggers."""

from typing import Any

from lightning import Callback, Trainer

from unlabeled.callbacks.checkpoints import Checkpoints
from unlabeled.callbacks.records import Records
from unlabeled.callbacks.trainer import callback
from unlabeled.loggers.actions import artifact, summary


class Dashboards(Callback):
    """Logs the config first; at the end the final checkpoint (best, else last) and best.ckpt's values, best/NAME."""

    def on_fit_start(self, trainer: Trainer, method: Any) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams(callback(trainer, Checkpoints).config)

    def on_train_end(self, trainer: Trainer, method: Any) -> None:
        if not trainer.is_global_zero:
            return
        checkpoints = callback(trainer, Checkpoints)
        best = {f"best/{name.partition('/')[2]}": value for name, value in callback(trainer, Records).best.items()}
        file = next((path for path in (checkpoints.best, checkpoints.last) if path.is_file()), None)
        for logger in trainer.loggers:
            summary(logger, best)
            if file is not None:
                artifact(logger, file, "checkpoint")
