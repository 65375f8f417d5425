"""Batches by indexing: no per-image Python, no worker processes, and an order that a seed decides exactly."""

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
    """Batches of a table in order: what evaluation reads.

    Over several ranks, step t of every rank together is one batch of `world * batch_size` rows: nothing is
    repeated and nothing left out, so that the last batches may differ in size, or be missing on some ranks.
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
    """Batches of a table in random order, endlessly resumable: what training reads.

    The order is a function of (seed, epoch); the augmentation's noise one of (seed, epoch, batch, rank). A
    rest that does not fill a batch is left out of its epoch (batch norm and contrastive losses want full
    batches), unless the table is smaller than one batch. Over several ranks, step t of every rank together is
    the step t that one rank would have with `world` times the batch size.
    """

    def __init__(
        self,
        table: Table,
        batch_size: int,
        seed: int,
        augment: Callable[[Any], Any] | None = None,  # batch -> batch
        rank: int = 0,
        world: int = 1,
    ):
        self.table = table
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.rank = rank
        self.world = world
        self.batches = 0  # given so far, over all epochs: with the seed, this is the whole state

    def __len__(self) -> int:
        return max(1, len(self.table) // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[Any]:
        # Runs at the first next(), so that asking twice for an iterator skips nothing.
        epoch, first = divmod(self.batches, len(self))
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        steps = self.table.order(generator).split(self.batch_size * self.world)
        for step in range(first, len(self)):
            self.batches += 1
            batch = self.table.batch(steps[step][self.rank :: self.world])
            if self.augment is not None:
                seed_noise(self.seed, epoch, step, self.rank)
                batch = self.augment(batch)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches = state["batches"]
