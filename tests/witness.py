"""Callbacks that tests put into runs which happen in other processes."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from unlabeled.callbacks.checkpoints import Checkpoints


class Witness(Callback):
    """Every rank writes down what it trains: FOLDER/witness-RANK.json."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer: Trainer, method: Any) -> None:
        checkpoints = next(c for c in trainer.callbacks if isinstance(c, Checkpoints))  # type: ignore[attr-defined]
        facts = {"rates": [o.param_groups[0]["lr"] for o in trainer.optimizers], "world": trainer.world_size}
        content = facts | {"process": os.getpid(), "config": checkpoints.config}
        (self.folder / f"witness-{trainer.global_rank}.json").write_text(json.dumps(content))


class Signals(Callback):
    """The last rank sends a signal to its own process in batch `batch`, the first time that it comes there."""

    def __init__(self, folder: str, name: str, batch: int):
        self.sent, self.number, self.batch = Path(folder) / f"signalled-{name}", getattr(signal, name), batch

    def on_train_batch_start(self, trainer: Trainer, method: Any, batch: Any, batch_idx: int) -> None:
        last = trainer.global_rank == trainer.world_size - 1
        if last and trainer.fit_loop.total_batch_idx == self.batch:
            with suppress(FileExistsError):
                self.sent.touch(exist_ok=False)
                os.kill(os.getpid(), self.number)
