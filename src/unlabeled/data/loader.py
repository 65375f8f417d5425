"""Loaders that index tables: no Python per example, no worker processes, an order that is a function of the seed."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from unlabeled.seeding import mix, seed_noise


class Table(Protocol):
    """Rows that can be fetched by index, many at once."""

    def __len__(self) -> int: ...

    def order(self, generator: torch.Generator) -> Tensor:
        """One epoch's random order: an index tensor whose first axis runs over rows."""

    def batch(self, index: Tensor) -> Any:
        """One batch (see batches.py) of the rows `index`, on the table's device."""


class Loader:
    """Batches of a table in order, for evaluation.

    Step t of all ranks together is one batch of `world * batch_size` rows. No row is repeated or left out, so the last
    batches may differ in size, or be missing on some ranks.
    """

    def __init__(self, table: Table, batch_size: int, rank: int = 0, world: int = 1):
        self.table = table
        self.batch_size = batch_size
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        mine = len(range(self.rank, len(self.table), self.world))
        return -(-mine // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        mine = torch.arange(self.rank, len(self.table), self.world)
        for index in mine.split(self.batch_size):
            if len(index):
                yield self.table.batch(index)


class ShuffledLoader:
    """Batches of a table in random order, exactly resumable, for training.

    The order is a function of (seed, epoch); the augmentation's noise of (seed, epoch, batch, rank). An incomplete last
    batch is left out (batch norm and contrastive losses need full ones), unless the table is smaller than one batch.
    Step t of all ranks together is the step t of one rank with `world` times the batch size.

    The position in an epoch is a number of rows: with another batch size, or other ranks, an epoch continues after the
    rows already read.
    """

    def __init__(
        self,
        table: Table,
        batch_size: int,
        seed: int,
        augment: Callable[[Any], Any] | None = None,  # batch -> batch
        rank: int = 0,
        world: int = 1,
        most: int | None = None,  # batches an epoch
    ):
        self.table = table
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.rank = rank
        self.world = world
        self.step = batch_size * world  # rows that a step of all ranks takes
        self.most = most
        self.epoch, self.row = 0, 0  # the next position: with the seed, the whole state

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        length = max(1, self._steps(len(self.table)))
        return length if self.most is None else min(length, self.most)

    @property
    def epoch_rows(self) -> int:
        """Rows of a whole epoch, over all ranks."""
        return min(len(self.table), len(self) * self.step)

    @property
    def steps_left(self) -> int:
        """Steps of the current epoch from `row` on."""
        if not self.row:
            return len(self)
        end = len(self.table) if self.most is None else self.epoch_rows
        return self._steps(max(0, end - self.row))

    def _steps(self, rows: int) -> int:
        return rows // self.step

    def _order(self) -> Tensor:
        return self.table.order(torch.Generator().manual_seed(mix(self.seed, self.epoch)))

    def __iter__(self) -> Iterator[Any]:
        # Runs at the first next(), so that asking twice for an iterator skips nothing.
        if not self.steps_left:
            self.epoch, self.row = self.epoch + 1, 0
        epoch, left = self.epoch, self.steps_left
        steps = self._order()[self.row :].split(self.step)[:left]
        for number, rows in enumerate(steps, len(self) - left):
            self.row += len(rows)
            if number + 1 == len(self):
                self.epoch, self.row = epoch + 1, 0
            batch = self.table.batch(rows[self.rank :: self.world])
            if self.augment is not None:
                seed_noise(self.seed, epoch, number, self.rank)
                batch = self.augment(batch)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "row": self.row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.row = state["epoch"], state["row"]


class WholePass(ShuffledLoader):
    """Every row of a table once an epoch, in order, for methods that fit in one pass.

    The last step may be smaller, or empty on some ranks: each takes the same number of steps.
    """

    def _steps(self, rows: int) -> int:
        return -(-rows // self.step)

    def _order(self) -> Tensor:
        return torch.arange(len(self.table))
