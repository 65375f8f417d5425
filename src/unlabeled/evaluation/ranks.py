"""Where a process stands among those that evaluate together. Alone, nothing is sent."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from unlabeled.errors import error_line

T = TypeVar("T")


class Failure(NamedTuple):
    """What a process sends in place of its part."""

    line: str


class Elsewhere(Exception):
    """Another process failed."""


class Ranks(NamedTuple):
    """Rank of `world` processes. Every block of rows belongs to one of them, by its number."""

    rank: int = 0
    world: int = 1
    group: Any = None  # a process group that sends CPU tensors (gloo)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def blocks(self, n: int, size: int) -> Iterator[Tensor]:
        """This process's share of 0..n-1, in blocks of `size` consecutive rows, ascending."""
        for start in range(self.rank * size, n, self.world * size):
            yield torch.arange(start, min(start + size, n))

    def gather(self, own: Any) -> list[Any]:
        """What every process holds, on every process, by rank. Raises Elsewhere where one failed, see `together`."""
        if self.world == 1:
            return [own]
        held = self.exchange(own)
        for part in held:
            if isinstance(part, Failure):
                raise Elsewhere(part.line)
        return held

    def exchange(self, own: Any) -> list[Any]:
        held: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(held, own, group=self.group)
        return held

    def together(self, work: Callable[[], T]) -> tuple[T | None, str | None]:
        """What `work` gives; or None, and in one line what went wrong, on every process, whichever it failed on.

        `work` may gather as often as it likes, as long as every process does so equally often. One that fails tells the
        others at its next turn, so that none waits for it.
        """
        try:
            result = work()
            self.gather([])
            return result, None
        except Elsewhere as error:
            return None, str(error)
        except Exception as error:
            line = error_line(error)
            with suppress(Elsewhere):  # this process's own failure, among others
                self.gather(Failure(line))
            return None, line
