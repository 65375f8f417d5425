"""Recorded quantities, gathered without waiting for the device and logged every few batches."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer
from torch import Tensor, distributed

from unlabeled.callbacks.pace import Budget
from unlabeled.callbacks.trainer import callback, data_of, is_ending
from unlabeled.errors import UserError


class Diverged(UserError):
    """A recorded quantity, or a weight, is not a finite number."""


class Mean(NamedTuple):
    """A quantity of one batch: its mean over a number of rows."""

    value: Tensor
    rows: int | Tensor
    batch: int
    epoch: int


class Records(Callback):
    """Logs the means of `method.recorded` over `every` batches, also to Lightning's callback metrics.

    Means are over the rows that a quantity was measured on; without rows it is left out. A value that is not finite
    ends the run with the batch's number, and no checkpoint is written after that batch.
    """

    def __init__(self, every: int = 50):
        self.every = every
        self.pending: dict[str, list[Mean]] = {}  # since the last write
        self.latest: dict[str, float] = {}  # the latest value of each quantity
        self.validation: dict[str, float] = {}  # of the latest validation, complete at its end
        self.higher: set[str] = set()  # quantities of which higher values are better
        self.best: dict[str, float] = {}  # `validation` as it was for best.ckpt (checkpoints.py)
        self._validation: dict[str, list[Mean]] = {}

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        method.recorded.clear()
        # those of a resumed run are on the CPU
        self.pending = {name: _at(means, method.device) for name, means in self.pending.items()}

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        _drain(method, len(batch[0]), self.pending, done, trainer.current_epoch)
        if done % self.every == 0:
            self.write(trainer, method)

    def on_train_epoch_end(self, trainer: Trainer, method: Any) -> None:
        if is_ending(trainer):
            self.write(trainer, method)

    def check(self, trainer: Trainer) -> None:
        """Raise Diverged if any pending value is not finite."""
        for name, means in self.pending.items():
            values, rows = _columns(means)
            wrong = (~values.isfinite() & (rows > 0)).tolist()
            if any(wrong):
                found = means[wrong.index(True)]
                raise Diverged(f"{name} is {float(found.value)} at batch {found.batch} (epoch {found.epoch})")

    def write(self, trainer: Trainer, method: Any) -> None:
        self.check(trainer)
        done = max((means[-1].batch for means in self.pending.values()), default=trainer.fit_loop.total_batch_idx + 1)
        found = _means(trainer, self.pending)
        self.pending = {}
        if not found:
            return
        if trainer.optimizers:
            found["train/lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._send(trainer, method, found, done)

    def on_validation_start(self, trainer: Trainer, method: Any) -> None:
        self.validation = {}

    def on_validation_batch_end(
        self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        _drain(method, len(batch[0]), self._validation)

    def on_validation_epoch_end(self, trainer: Trainer, method: Any) -> None:
        gathered, self._validation = self._validation, {}
        if trainer.sanity_checking:
            return
        found = _means(trainer, gathered)
        if found:
            self.add(trainer, method, found)

    def add(self, trainer: Trainer, method: Any, values: dict[str, float]) -> None:
        """Add quantities of the current validation, the same on every rank."""
        self.validation |= values
        self._send(trainer, method, values, trainer.fit_loop.total_batch_idx + 1)

    def state_dict(self) -> dict[str, Any]:
        pending = {name: [tuple(mean) for mean in _at(means, "cpu")] for name, means in self.pending.items()}
        return {"pending": pending, "latest": self.latest, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pending = {name: [Mean(*mean) for mean in means] for name, means in state["pending"].items()}
        self.latest, self.best = state["latest"], state["best"]

    def _send(self, trainer: Trainer, method: Any, values: dict[str, float], batches: int) -> None:
        self.latest.update(values)
        # for Lightning's own callbacks; its log_dict takes 0.5 ms a value
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        examples = callback(trainer, Budget).done.examples
        for logger in trainer.loggers:
            logger.log_metrics(values | {"epoch": trainer.current_epoch, data_of(trainer).noun: examples}, step=batches)


def _drain(method: Any, rows: int, means: dict[str, list[Mean]], batch: int = 0, epoch: int = 0) -> None:
    """Move what a method recorded on a batch of `rows` rows to `means`."""
    for recorded in method.recorded:
        for name, value in recorded.items():
            mean = Mean(value, rows if recorded.rows is None else recorded.rows, batch, epoch)
            means.setdefault(name, []).append(mean)
    method.recorded.clear()


def _at(means: Iterable[Mean], device: Any) -> list[Mean]:
    """Means on a device."""
    rows = lambda rows: rows.to(device) if isinstance(rows, Tensor) else rows
    return [mean._replace(value=mean.value.to(device), rows=rows(mean.rows)) for mean in means]


def _columns(means: list[Mean]) -> tuple[Tensor, Tensor]:
    """Values and numbers of rows, in float64 on the CPU: this waits for the device."""
    values = torch.stack([mean.value for mean in means]).cpu().double()
    if not any(isinstance(mean.rows, Tensor) for mean in means):
        return values, torch.tensor([mean.rows for mean in means], dtype=torch.float64)
    rows = [torch.as_tensor(mean.rows, device=mean.value.device, dtype=torch.float32) for mean in means]
    return values, torch.stack(rows).cpu().double()


def _means(trainer: Trainer, gathered: Mapping[str, list[Mean]]) -> dict[str, float]:
    """Means over the rows of all batches and ranks. All ranks call it, also without measurements."""
    names = list(gathered)
    if trainer.world_size > 1:
        all_gather: list[Any] = [None] * trainer.world_size
        distributed.all_gather_object(all_gather, names)
        names = list(dict.fromkeys(name for own in all_gather for name in own))
    sums = torch.zeros(len(names), 2, dtype=torch.float64)  # of values, and of rows
    for i, name in enumerate(names):
        if name in gathered:
            values, rows = _columns(gathered[name])
            sums[i] = torch.stack([(rows * values)[rows > 0].sum(), rows.sum()])
    if trainer.world_size > 1:
        sums = trainer.strategy.reduce(sums.to(trainer.strategy.root_device), reduce_op="sum").cpu()
    return {name: total / rows for name, (total, rows) in zip(names, sums.tolist(), strict=True) if rows}
