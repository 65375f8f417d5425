"""Checkpoints that stand alone, appear whole or not at all, and are there when a run is broken off."""

import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from unlabeled.callbacks.measures import Measures
from unlabeled.callbacks.records import Diverged, Records
from unlabeled.errors import UserError


class AtomicIO(TorchCheckpointIO):
    """Writes beside the target and renames: a full disk or a kill leaves the checkpoint before it as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except (OSError, RuntimeError) as error:
            before = f"; the one written before is whole: {path}" if path.exists() else ""
            first = error if isinstance(error, OSError) else error.__context__  # torch.save hides why it broke off
            reason = getattr(first, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"cannot write checkpoint {path}: {reason}{before}") from error
        finally:
            unfinished.unlink(missing_ok=True)


class Interrupted(UserError):
    """The run was asked to stop, and has been saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


class Checkpoints(Checkpoint):
    """last.ckpt after every epoch (or every `every` batches), best.ckpt where the monitored quantity is best.

    Each carries the run's resolved config as a plain dict under "config". On Ctrl-C or SIGTERM the batch at hand is
    finished, last.ckpt written, and Interrupted raised; a second Ctrl-C ends at once.
    """

    def __init__(
        self,
        folder: str,
        every: int | None = None,  # batches between two writes of last.ckpt, beside those at the ends of epochs
        monitor: str | None = None,  # val/QUANTITY; None: the method's own
        mode: str | None = None,  # lowest or highest; None: as a measured number says of itself, else lowest
    ):
        if mode not in (None, "lowest", "highest"):
            raise UserError(f"callbacks.checkpoints.mode={mode}: say lowest or highest")
        self.folder = Path(folder)
        self.every = every
        self.monitor = monitor
        self.mode = mode
        self.config: dict[str, Any] = {}  # set by the one who starts the run
        self.reached: float | None = None  # the monitored quantity in best.ckpt
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    def choice(self, trainer: Trainer) -> tuple[str | None, str]:
        """What best.ckpt is chosen by, None where only the last is kept; and lowest or highest."""
        method: Any = trainer.lightning_module
        monitor = self.monitor or method.monitor
        return monitor, self.mode or ("highest" if monitor in _records(trainer).higher else "lowest")

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        if trainer.is_last_batch:
            return  # validation comes next, and then on_train_epoch_end
        if done % max(trainer.accumulate_grad_batches, getattr(method, "accumulate", 1)):
            return  # half a step cannot be resumed
        if self._asked(trainer):
            self._save(trainer, self.last)
            self._stop(done)
        if self.every and done % self.every == 0:
            self._save(trainer, self.last)

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        records, (monitor, mode) = _records(trainer), self.choice(trainer)
        if trainer.sanity_checking or monitor is None:
            return
        value = records.validation.get(monitor)
        if value is None:
            measures = [callback for callback in trainer.callbacks if isinstance(callback, Measures)]  # type: ignore[attr-defined]
            if self.monitor and all(callback.measured for callback in measures):
                known = ", ".join(sorted(records.validation)) or "nothing"
                raise UserError(f"callbacks.checkpoints.monitor={monitor} is not measured: validation gives {known}")
            return
        sign = -1 if mode == "highest" else 1
        if math.isfinite(value) and (self.reached is None or sign * value < sign * self.reached):
            self.reached, records.best = value, dict(records.validation)
            self._save(trainer, self.best)

    def on_train_epoch_end(self, trainer: Trainer, method: Any) -> None:
        self._save(trainer, self.last)
        if self._asked(trainer) and not trainer.should_stop:
            self._stop(trainer.fit_loop.total_batch_idx + 1)

    def _asked(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to stop."""
        asked = self._signal is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _stop(self, done: int) -> None:
        message = f"stopped after batch {done}; to go on: python train.py resume={self.folder.parent}"
        raise Interrupted(message, self._signal or signal.SIGTERM)

    def on_save_checkpoint(self, trainer: Trainer, method: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config

    def _save(self, trainer: Trainer, path: Path) -> None:
        _records(trainer).check(trainer)
        for name, weight in trainer.lightning_module.named_parameters():
            if not torch.isfinite(weight).all():  # the loss shows it at the next batch only
                done = trainer.fit_loop.total_batch_idx + 1
                raise Diverged(f"the weight {name} is not finite after batch {done}")
        trainer.save_checkpoint(path)

    def teardown(self, trainer: Trainer, method: Any, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "reached": self.reached}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reached = state["reached"] if state["monitor"] == self.monitor else None


def _records(trainer: Trainer) -> Records:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Records))  # type: ignore[attr-defined]
