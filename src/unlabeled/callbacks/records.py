"""What methods record, gathered without waiting for the device and written every few batches."""

from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from unlabeled.errors import UserError


class Diverged(UserError):
    """A recorded quantity, or a weight, is not a finite number."""


class Records(Callback):
    """Drains `method.recorded`: means over `every` batches go to the loggers, and to Lightning's callback metrics.

    A value that is not finite ends the run with its batch's number; nothing is checkpointed after that batch.
    """

    def __init__(self, every: int = 50):
        self.every = every
        self.pending: list[tuple[int, dict[str, Tensor]]] = []  # (batch, values) since the last write
        self.latest: dict[str, float] = {}  # the newest value of each quantity
        self.validation: dict[str, float] = {}  # what the newest validation found, complete at its end
        self.higher: set[str] = set()  # of which a higher value is better, as far as is known
        self.best: dict[str, float] = {}  # `validation` as it was for best.ckpt (checkpoints.py)
        self._validation: list[tuple[int, dict[str, Tensor]]] = []  # (images, values)

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        method.recorded.clear()
        # of a resumed run: they were kept on the CPU
        self.pending = [(n, {k: v.to(method.device) for k, v in values.items()}) for n, values in self.pending]

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        self.pending += [(done, values) for values in method.recorded]
        method.recorded.clear()
        if done % self.every == 0:
            self.write(trainer, method)

    def on_train_epoch_end(self, trainer: Trainer, method: Any) -> None:
        if trainer.should_stop:
            self.write(trainer, method)

    def check(self, trainer: Trainer) -> None:
        """Raise Diverged if any pending value is not finite."""
        for name, values in _columns(self.pending).items():
            finite = torch.isfinite(torch.stack([value for _, value in values])).tolist()
            if not all(finite):
                batch = values[finite.index(False)][0]
                value = float(values[finite.index(False)][1])
                epoch = (batch - 1) // int(trainer.num_training_batches)
                raise Diverged(f"{name} is {value} at batch {batch} (epoch {epoch})")

    def write(self, trainer: Trainer, method: Any) -> None:
        self.check(trainer)
        if not self.pending:
            return
        done = self.pending[-1][0]
        means = {
            name: torch.stack([value.float() for _, value in values]).mean()
            for name, values in _columns(self.pending).items()
        }
        self.pending.clear()
        if trainer.world_size > 1:
            means = {name: trainer.strategy.reduce(value, reduce_op="mean") for name, value in means.items()}
        rate = {}
        if trainer.optimizers:
            rate["train/lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._send(trainer, method, {name: float(value) for name, value in means.items()} | rate, done)

    def on_validation_start(self, trainer: Trainer, method: Any) -> None:
        self.validation = {}

    def on_validation_batch_end(
        self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._validation += [(len(batch[0]), values) for values in method.recorded]
        method.recorded.clear()

    def on_validation_epoch_end(self, trainer: Trainer, method: Any) -> None:
        gathered, self._validation = self._validation, []
        if trainer.sanity_checking or not gathered:
            return
        means = {}
        for name, values in _columns(gathered).items():
            total = torch.stack(
                [torch.stack([n * value.double(), value.new_tensor(n).double()]) for n, value in values]
            ).sum(0)
            if trainer.world_size > 1:
                total = trainer.strategy.reduce(total, reduce_op="sum")
            means[name] = float(total[0] / total[1])
        self.add(trainer, method, means)

    def add(self, trainer: Trainer, method: Any, values: dict[str, float]) -> None:
        """Quantities of the validation at hand, the same on every rank."""
        self.validation |= values
        self._send(trainer, method, values, trainer.fit_loop.total_batch_idx + 1)

    def state_dict(self) -> dict[str, Any]:
        pending = [(batch, {name: value.cpu() for name, value in values.items()}) for batch, values in self.pending]
        return {"pending": pending, "latest": self.latest, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pending, self.latest, self.best = list(state["pending"]), state["latest"], state["best"]

    def _send(self, trainer: Trainer, method: Any, values: dict[str, float], batches: int) -> None:
        self.latest.update(values)
        # what Lightning's own callbacks read; its log_dict takes 0.5 ms a value
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        images = batches * trainer.datamodule.batch_size * trainer.world_size  # type: ignore[attr-defined]
        for logger in trainer.loggers:
            logger.log_metrics(values | {"epoch": trainer.current_epoch, "images": images}, step=batches)


def _columns(rows: list[tuple[int, dict[str, Tensor]]]) -> dict[str, list[tuple[int, Tensor]]]:
    """Rows of several quantities as a list for each quantity."""
    columns: dict[str, list[tuple[int, Tensor]]] = {}
    for number, values in rows:
        for name, value in values.items():
            columns.setdefault(name, []).append((number, value))
    return columns
