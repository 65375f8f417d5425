"""Counting: a budget in epochs, batches or images, the same for one player and for three; noise by step and rank."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from unlabeled.errors import UserError
from unlabeled.seeding import seed_noise


class Over(UserError):
    """The budget was spent before this process took over."""


class Budget(Callback):
    """Ends training at the first limit that is reached, and tells the method what share of it is spent.

    `trainer.global_step` counts every player's step, and is used nowhere.
    """

    def __init__(self, epochs: int | None = None, batches: int | None = None, images: int | None = None):
        self.epochs, self.batches, self.images = epochs, batches, images
        self.limit = 0  # in batches, known once the data are
        self.earlier = 0.0  # seconds of training before this process took over
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Of training, over all the processes that the run went through."""
        return self.earlier + time.monotonic() - self._began

    def on_train_start(self, trainer: Trainer, method: LightningModule) -> None:
        self._began = time.monotonic()
        limits = []
        if self.epochs is not None:
            limits.append(self.epochs * int(trainer.num_training_batches))
        if self.batches is not None:
            limits.append(self.batches)
        if self.images is not None:
            limits.append(-(-self.images // (trainer.datamodule.batch_size * trainer.world_size)))  # type: ignore[attr-defined]
        if not limits:
            raise UserError("training would never end: say budget.epochs=N, budget.batches=N or budget.images=N")
        self.limit = min(limits)
        done = trainer.fit_loop.total_batch_idx + 1
        if done >= self.limit:
            raise Over(f"nothing left to do: {done} of {self.limit} batches are done; for more, say budget.epochs=N")

    def on_train_batch_start(self, trainer: Trainer, method: Any, batch: Any, batch_idx: int) -> None:
        method.progress = (trainer.fit_loop.total_batch_idx + 0.5) / self.limit  # at the middle of the batch

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.total_batch_idx + 1 >= self.limit:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.earlier = state["seconds"]


class Noise(Callback):
    """Batch t of a run draws the same noise whatever happened before; every rank draws its own."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, method: LightningModule, *_: Any) -> None:
        seed_noise(self.seed, 2, trainer.fit_loop.total_batch_idx, trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: Trainer, method: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_noise(self.seed, 3, batch_idx, trainer.global_rank)
