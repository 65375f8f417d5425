"""Where a process stands among those that evaluate together. Alone, nothing is sent."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Place(NamedTuple):
    """Rank of `world` processes. Every block of rows belongs to one of them, by its number."""

    rank: int = 0
    world: int = 1
    group: Any = None  # a process group that sends CPU tensors (gloo)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def blocks(self, n: int, size: int) -> Iterator[Tensor]:
        """This process's share of 0..n-1, in blocks of `size` consecutive rows, ascending."""
        for start in range(self.rank * size, n, self.world * size):
            yield torch.arange(start, min(start + size, n))

    def gather(self, own: Any) -> list[Any]:
        """What every process holds, on every process, by rank."""
        if self.world == 1:
            return [own]
        held: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(held, own, group=self.group)
        return held
