"""Base classes of all methods."""

from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, cast

from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from unlabeled.batches import Images

P = ParamSpec("P")


def constant(progress: float) -> float:
    """The learning rate's factor at a share of the run: always 1."""
    return 1.0


class Recorded(dict[str, Tensor]):
    """Quantities by name, each a mean over `rows` rows; None: over the whole batch."""

    rows: int | Tensor | None = None


class Method(LightningModule):
    """A method records quantities and follows a learning-rate schedule."""

    batch: ClassVar[type | tuple[type, ...]] = Images  # kinds of batch that it learns from, see batches.py
    monitor: ClassVar[str | None] = "val/loss"  # the best checkpoint has the lowest; None: only the last is kept

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Callable[[float], float] = constant  # share of the run in [0, 1] -> factor of the learning rate
        self.progress = 0.0  # share of the budget at the middle of this batch, in (0, 1)
        self.steps = 0  # groups of `accumulate` batches before this one's, over the whole run
        self.recorded: list[Recorded] = []  # one dictionary a call, until a callback drains it

    def record(self, rows: int | Tensor | None = None, **values: Tensor) -> None:
        """Record quantities of this batch as train/NAME or val/NAME, without waiting for the device.

        `rows`: the number of rows that the values are means over, their weight; None: the whole batch. Means over 0
        rows are left out.
        """
        if isinstance(rows, int) and not rows:
            return
        stage = "train" if self.training else "val"
        recorded = Recorded({f"{stage}/{name}": value.detach() for name, value in values.items()})
        recorded.rows = rows
        self.recorded.append(recorded)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Records quantities of validation data; here none."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * self.schedule(self.progress)


class Adversarial(Method):
    """Players that take turns. Goodfellow et al. 2014, algorithm 1.

    A subclass writes the order of the turns in `training_step`; `update` is one turn.
    """

    automatic_optimization = False
    monitor: ClassVar[str | None] = None
    accumulate = 1  # batches whose gradients make one step

    @property
    def batches(self) -> int:
        """Batches of the whole run before this one; batch_idx would start again each epoch."""
        return self.trainer.fit_loop.total_batch_idx

    def players(self) -> list[Optimizer]:
        """The players' optimizers, in the order of `configure_optimizers`."""
        return cast(list[Optimizer], self.optimizers())

    def update(self, optimizer: Optimizer, loss: Callable[P, Tensor], *args: P.args, **kwargs: P.kwargs) -> None:
        """One player's turn: only its own parameters get gradients, then it steps."""
        with self.toggled_optimizer(optimizer):
            self.manual_backward(loss(*args, **kwargs) / self.accumulate)
            within = self.trainer.fit_loop.epoch_loop.batch_idx + 1
            if within % self.accumulate == 0 or self.trainer.is_last_batch:  # validation would drop half a step
                optimizer.step()
                optimizer.zero_grad()

    def is_update_batch(self, n: int) -> bool:
        """Whether this batch belongs to every n-th step of the run."""
        return (self.steps + 1) % n == 0
