"""Sums over the processes of a run."""

from torch import Tensor
from torch.distributed import all_reduce, is_available, is_initialized


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of every process's value, the same on all; in one process, the value."""
    if is_available() and is_initialized():
        value = value.clone()
        all_reduce(value)
    return value
