"""Checkpoints: self-contained, written atomically, and saved when a run is interrupted."""

import math
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from unlabeled.callbacks.measures import Measures
from unlabeled.callbacks.pace import batches_per_step
from unlabeled.callbacks.records import Diverged, Records
from unlabeled.callbacks.trainer import callback, callbacks, data_of, is_ending
from unlabeled.commands import resume
from unlabeled.distributed.sharded import all_finite
from unlabeled.errors import Interrupted, UserError
from unlabeled.files import FORMAT, atomic


class AtomicIO(TorchCheckpointIO):
    """Writes atomically: a full disk or a kill leaves the previous checkpoint intact.

    The former last.ckpt is kept as previous.ckpt.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # before the former file loses its name
                if path.name == "last.ckpt" and path.exists():
                    keep(path, path.with_name("previous.ckpt"))
            sync(path.parent)
        except (OSError, RuntimeError) as error:
            before = f"; the one written before is whole: {path}" if path.exists() else ""
            first = error if isinstance(error, OSError) else error.__context__  # torch.save hides the reason
            reason = getattr(first, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"cannot write checkpoint {path}: {reason}{before}") from error


def keep(path: Path, name: Path) -> None:
    """Give a file a second name, replacing the file of that name. Its own name exists at every moment.

    Without hard links the file is moved: until the next write only `name` exists.
    """
    second = path.with_name(f".{name.name}.{os.getpid()}")
    try:
        os.link(path, second)
    except OSError:
        os.replace(path, name)
    else:
        os.replace(second, name)
        second.unlink(missing_ok=True)  # os.replace leaves it where both names are one file's already


def sync(folder: Path) -> None:
    """Flush a folder's names to disk, where the system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Checkpoints(Checkpoint):
    """last.ckpt after every epoch (or every `every` batches), best.ckpt where the monitored quantity is best.

    Each holds the run's resolved config as a plain dict under "config", and the keys of its data under "data". On
    Ctrl-C or SIGTERM the current batch or validation is finished, last.ckpt written, and Interrupted raised. After
    `grace` seconds it is broken off, to be repeated on resuming; a second Ctrl-C ends at once.
    """

    def __init__(
        self,
        folder: str,
        every: int | None = None,  # batches between two writes of last.ckpt, beside those at the ends of epochs
        monitor: str | None = None,  # val/QUANTITY; None: the method's own
        mode: str | None = None,  # lowest or highest; None: the metric's own direction, else lowest
        grace: int = 100,  # seconds; processes.py waits for 120
    ):
        if mode not in (None, "lowest", "highest"):
            raise UserError(f"callbacks.checkpoints.mode={mode}: say lowest or highest")
        self.folder = Path(folder)
        self.every = every
        self.monitor = monitor
        self.mode = mode
        self.grace = grace
        self.config: dict[str, Any] = {}  # set by the program
        self.reached: float | None = None  # the monitored quantity in best.ckpt
        self._resumed: dict[str, Any] = {}  # the resumed checkpoint's optimizers and method config
        self._settings: list[list[dict[str, Any]]] = []  # of the optimizers, as they were built
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    @property
    def last(self) -> Path:
        return self.folder / "last.ckpt"

    @property
    def previous(self) -> Path:
        return self.folder / "previous.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "best.ckpt"

    def choice(self, trainer: Trainer) -> tuple[str | None, str]:
        """The quantity that best.ckpt is chosen by, None where only the last is kept; and lowest or highest."""
        method: Any = trainer.lightning_module
        monitor = self.monitor or method.monitor
        return monitor, self.mode or ("highest" if monitor in callback(trainer, Records).higher else "lowest")

    def on_load_checkpoint(self, trainer: Trainer, method: Any, checkpoint: dict[str, Any]) -> None:
        groups = [[len(g["params"]) for g in state.get("param_groups", [])] for state in checkpoint["optimizer_states"]]
        self._resumed = {"groups": groups, "model": checkpoint.get("config", {}).get("model")}

    def on_fit_start(self, trainer: Trainer, method: Any) -> None:
        """Called before the optimizers' states are loaded."""
        if threading.current_thread() is threading.main_thread():  # before Lightning installs its own
            self._handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        groups = [optimizer.param_groups for optimizer in trainer.optimizers]
        self._settings = [[{k: v for k, v in g.items() if k != "params"} for g in own] for own in groups]
        if self._resumed and self._resumed["groups"] != [[len(g["params"]) for g in own] for own in groups]:
            raise UserError(
                f"{self.last} does not fit {type(method).__name__} as it is now: it has other optimizers, or they have "
                "other parameters; go on with the code and config that wrote it, or start a run of its own"
            )

    def _renew(self, trainer: Trainer) -> None:
        """Apply a changed model config to the optimizers too, whose restored states hold the old settings."""
        if not self._resumed or self._resumed["model"] == self.config.get("model"):
            return
        for optimizer, settings in zip(trainer.optimizers, self._settings, strict=True):
            for group, fresh in zip(optimizer.param_groups, settings, strict=True):
                group.update(fresh)
                group["initial_lr"] = fresh["lr"]

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        self._renew(trainer)
        if trainer.is_global_zero:
            for unfinished in self.folder.glob(".*.ckpt.*"):  # of a process that was killed
                unfinished.unlink(missing_ok=True)
        if threading.current_thread() is threading.main_thread():
            for number in self._handlers:
                signal.signal(number, self._late if number == signal.SIGALRM else self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            before = self._handlers[number]
            if callable(before):
                before(number, frame)  # which prints it
            raise SystemExit(128 + number)
        self._signal = number
        signal.alarm(self.grace)

    def _late(self, number: int, frame: Any) -> None:
        done = f"to go on from the last checkpoint: {resume(self.folder.parent)}"
        done = done if self.last.exists() else "it had no checkpoint yet"
        raise Interrupted(f"stopped; {self.grace} s did not suffice to save; {done}", self._signal or signal.SIGTERM)

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        if trainer.is_last_batch or is_ending(trainer):
            return  # validation and on_train_epoch_end come next
        if (batch_idx + 1) % batches_per_step(trainer):
            return  # half a step cannot be resumed
        if self._asked(trainer):
            self._save(trainer, self.last)
            self._stop(done)
        if self.every and done % self.every == 0:
            self._save(trainer, self.last)

    def on_validation_end(self, trainer: Trainer, method: Any) -> None:
        records, (monitor, mode) = callback(trainer, Records), self.choice(trainer)
        if trainer.sanity_checking or monitor is None:
            return
        value = records.validation.get(monitor)
        if value is None:
            if self.monitor and all(measures.measured for measures in callbacks(trainer, Measures)):
                known = ", ".join(sorted(records.validation)) or "nothing"
                raise UserError(f"callbacks.checkpoints.monitor={monitor} is not measured: validation gives {known}")
            return
        sign = -1 if mode == "highest" else 1
        if math.isfinite(value) and (self.reached is None or sign * value < sign * self.reached):
            self.reached, records.best = value, dict(records.validation)
            self._save(trainer, self.best)

    def on_train_epoch_end(self, trainer: Trainer, method: Any) -> None:
        self._save(trainer, self.last)
        if self._asked(trainer) and not is_ending(trainer):
            self._stop(trainer.fit_loop.total_batch_idx + 1)

    def _asked(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to stop. All ranks call it."""
        asked = self._signal is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _stop(self, done: int) -> None:
        message = f"stopped after batch {done}; to go on: {resume(self.folder.parent)}"
        raise Interrupted(message, self._signal or signal.SIGTERM)

    def on_save_checkpoint(self, trainer: Trainer, method: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["format"] = FORMAT
        checkpoint["config"] = self.config
        checkpoint["data"] = dict(data_of(trainer).keys)

    def _save(self, trainer: Trainer, path: Path) -> None:
        callback(trainer, Records).check(trainer)
        for name, weight in trainer.lightning_module.named_parameters():
            if not all_finite(weight):  # the loss would show it only at the next batch
                done = trainer.fit_loop.total_batch_idx + 1
                raise Diverged(f"the weight {name} is not finite after batch {done}")
        for logger in trainer.loggers:
            logger.save()  # so that they are never behind a checkpoint
        trainer.save_checkpoint(path)

    def teardown(self, trainer: Trainer, method: Any, stage: str) -> None:
        if self._handlers:
            signal.alarm(0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_exception(self, trainer: Trainer, method: Any, exception: BaseException) -> None:
        self.teardown(trainer, method, "fit")

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "mode": self.mode, "reached": self.reached}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        same = (state.get("monitor"), state.get("mode")) == (self.monitor, self.mode)
        self.reached = state.get("reached") if same else None
