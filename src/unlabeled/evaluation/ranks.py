"""The processes of an evaluation, and what they send to one another."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from unlabeled.errors import error_line

T = TypeVar("T")


class Failure(NamedTuple):
    """A process sends this in place of its part if it failed."""

    line: str


class Elsewhere(Exception):
    """Another process failed."""


class Ranks(NamedTuple):
    """This process among `world`. A single one sends nothing. Every block of rows belongs to one process."""

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
        """Every process's value, on every process, by rank. Raises Elsewhere if one failed, see `together`."""
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
        """The result of `work`, and None; or None and the failure in one line, on every process if one failed.

        `work` may gather any number of times, the same on every process. A process that fails tells the others when
        they gather next, so that none waits for it.
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
