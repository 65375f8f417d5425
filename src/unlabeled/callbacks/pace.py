"""A run's budget in epochs, batches or examples, what it has done of it, and noise seeded by batch and rank."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from unlabeled.callbacks.trainer import data_of, loader_of
from unlabeled.errors import UserError
from unlabeled.seeding import seed_noise


class BudgetSpent(UserError):
    """The budget was spent before this process started."""


@dataclass
class Counts:
    """What a run has done, unaffected by later changes of batch size or devices."""

    epochs: int = 0  # whole ones
    batches: int = 0  # steps of all ranks together
    examples: int = 0  # over all ranks
    steps: int = 0  # groups of `accumulate` batches
    rows: int = 0  # examples of the current epoch

    def of(self, limit: str) -> int:
        """What is done of a limit of the budget."""
        return self.examples if limit == "images" else getattr(self, limit)


def limits(
    epochs: int | None = None,
    batches: int | None = None,
    examples: int | None = None,
    images: int | None = None,
    **_: Any,
) -> dict[str, int | None]:
    """A budget's limits by the keys that a user gave: `images` is another word for `examples`."""
    if None not in (examples, images) and examples != images:
        raise UserError(f"budget.examples={examples} and budget.images={images} mean the same: say one of them")
    named = {"images": images} if images is not None else {"examples": examples}
    return {"epochs": epochs, "batches": batches, **named}


class Budget(Callback):
    """Ends training at the first limit that is reached, and sets the method's progress.

    The batch that reaches a limit is the last, or with accumulate=N the last of its group: half a step would be lost.
    `trainer.global_step` counts every player's steps and is never used.
    """

    def __init__(
        self,
        epochs: int | None = None,
        batches: int | None = None,
        examples: int | None = None,
        images: int | None = None,  # the same as examples
    ):
        self.limits = limits(epochs, batches, examples, images)
        self.done = Counts()
        self.limit = 0  # in batches, known when training starts
        self.earlier = 0.0  # seconds of training in earlier processes
        self._began = 0.0
        self._gathered = 0  # batches of the current group

    @property
    def seconds(self) -> float:
        """Seconds of training, over all processes of the run."""
        return self.earlier + time.monotonic() - self._began

    def on_load_checkpoint(self, trainer: Trainer, method: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume at the row that the epoch had reached, with the current batch size."""
        data = data_of(trainer)
        loader, loops = data.train_dataloader(), checkpoint["loops"]["fit_loop"]
        self.done = read_counts(checkpoint)
        loader.row = self.done.rows
        if self.done.rows and not loader.steps_left:
            self.done.epochs, self.done.rows, loader.row = self.done.epochs + 1, 0, 0
        data.start = self.done.epochs, self.done.rows
        _set_progress(loops, self.done, within=len(loader) - loader.steps_left)

    def on_train_start(self, trainer: Trainer, method: LightningModule) -> None:
        self._began = time.monotonic()
        if all(limit is None for limit in self.limits.values()):
            raise UserError("training would never end: say budget.epochs=N, budget.batches=N or budget.examples=N")
        check_budget_left(self.limits, self.done)
        self.limit = self._end(trainer)

    def _end(self, trainer: Trainer) -> int:
        """The number of batches of the whole run."""
        loader = loader_of(trainer)
        whole, left = len(loader), loader.steps_left
        ends = []
        if self.limits["epochs"] is not None:
            ends.append(left + (self.limits["epochs"] - self.done.epochs - 1) * whole)
        if self.limits["batches"] is not None:
            ends.append(self.limits["batches"] - self.done.batches)
        examples = self.limits.get("images", self.limits.get("examples"))
        if examples is not None:
            wanted = examples - self.done.examples
            here = min(left * loader.step, len(loader.table) - self.done.rows)
            each = min(loader.step, len(loader.table))  # rows of every batch, except perhaps an epoch's last
            epochs, rest = divmod(max(0, wanted - here), loader.epoch_rows)
            ends.append(left + epochs * whole + -(-rest // each) if wanted > here else -(-wanted // each))
        more = min(ends)
        within = whole - left + more if more <= left else (more - left) % whole
        more += min(-within % batches_per_step(trainer), whole - within) if within else 0
        return self.done.batches + more

    def on_train_batch_start(self, trainer: Trainer, method: Any, batch: Any, batch_idx: int) -> None:
        self._gathered += 1
        method.progress = (self.done.batches + 0.5) / self.limit  # at the middle of the batch
        method.steps = self.done.steps

    def on_before_optimizer_step(self, trainer: Trainer, method: LightningModule, optimizer: Optimizer) -> None:
        """Rescale the gradient of an incomplete group, whose batches were divided by the size of a whole one."""
        whole = batches_per_step(trainer)
        if self._gathered == whole:
            return
        for parameter in (p for owned in optimizer.param_groups for p in owned["params"]):
            if parameter.grad is not None:
                parameter.grad.mul_(whole / self._gathered)

    def on_train_batch_end(self, trainer: Trainer, method: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loader = loader_of(trainer)
        rows = min(loader.step, len(loader.table) - self.done.rows)
        self.done.batches += 1
        self.done.examples += rows
        self.done.rows += rows
        if trainer.is_last_batch:
            self.done.epochs, self.done.rows = self.done.epochs + 1, 0
        if trainer.is_last_batch or (batch_idx + 1) % batches_per_step(trainer) == 0:
            self.done.steps, self._gathered = self.done.steps + 1, 0
        if self.done.batches >= self.limit:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "done": asdict(self.done)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.earlier = state["seconds"]  # `done` was read in on_load_checkpoint


def batches_per_step(trainer: Trainer) -> int:
    """Batches whose gradients make one step."""
    return max(trainer.accumulate_grad_batches, getattr(trainer.lightning_module, "accumulate", 1))


def read_counts(checkpoint: Mapping[str, Any]) -> Counts:
    """The counts of a run when its checkpoint was written."""
    done = checkpoint["callbacks"].get("Budget", {}).get("done")
    if done is None or "examples" not in done:
        raise UserError("the checkpoint's run did not count its examples yet: go on with the version that wrote it")
    return Counts(**done)


def check_budget_left(limits: Mapping[str, int | None], done: Counts) -> None:
    """Raise BudgetSpent where a limit is reached."""
    reached = {key: limit for key, limit in limits.items() if limit is not None and done.of(key) >= limit}
    if reached:
        said = " and ".join(f"{done.of(key)} of {limit} {key}" for key, limit in reached.items())
        more = " ".join(f"budget.{key}=N" for key in reached)
        larger = " and ".join(f"budget.{key}={limit}" for key, limit in reached.items())
        raise BudgetSpent(f"nothing left to do: {said} are done; for more than {larger}, say {more}")


def _set_progress(loops: dict[str, Any], done: Counts, within: int) -> None:
    """Set the progress of Lightning's loops, which take a budget that ends within an epoch for that epoch's end.

    `within`: batches done of the current epoch, at the current batch size.
    """
    begun, passed = done.epochs + (within > 0), done.epochs - (within == 0)
    for progress in loops["epoch_progress"].values():
        progress |= {"ready": begun, "started": begun, "processed": done.epochs, "completed": passed}
    batches = loops["epoch_loop.batch_progress"]
    batches["total"]["completed"] = done.batches - (within > 0)
    if within:
        batches["is_last_batch"] = False
        batches["current"] |= {"ready": within, "started": within, "processed": within, "completed": within - 1}
        validation = loops["epoch_loop.val_loop.batch_progress"]["total"]
        validation |= dict.fromkeys(validation, 0)


class Noise(Callback):
    """Seeds the noise by batch number and rank, so that batch t draws the same noise in a resumed run."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, method: LightningModule, *_: Any) -> None:
        seed_noise(self.seed, 2, trainer.fit_loop.total_batch_idx, trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: Trainer, method: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_noise(self.seed, 3, batch_idx, trainer.global_rank)
