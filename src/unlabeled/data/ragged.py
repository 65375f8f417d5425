"""Rows of unequal lengths: flat values and offsets, padded batches, and an order that groups rows by length."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.data.store import ArrayWriter, load_array

PART = 50  # groups whose rows are sorted together
MULTIPLE = 8  # of which a padded batch's length is one, so that few lengths occur


def write_ragged(folder: Path, rows: Iterable[np.ndarray], dtype: Any, shape: tuple[int, ...] = ()) -> None:
    """FOLDER/values.npy (M, *shape), rows (length, *shape) one after the other, and offsets.npy (N + 1,) int64."""
    offsets = [0]
    with ArrayWriter(folder / "values.npy", dtype, shape) as out:
        for row in rows:
            out.write(row)
            offsets.append(out.rows)
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))


def load_ragged(folder: Path, dtype: Any, shape: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """(values, memory-mapped; offsets). Raises ValueError where they are not whole."""
    values = load_array(folder / "values.npy", dtype, shape)
    offsets = np.load(folder / "offsets.npy")
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets) or offsets[0] or offsets[-1] != len(values):
        raise ValueError("offsets.npy does not fit values.npy")
    if (np.diff(offsets) < 0).any():
        raise ValueError("offsets.npy does not ascend")
    return values, offsets


def padded(values: Tensor, offsets: Tensor, rows: Tensor, length: int | None = None, pad: int = 0) -> Tensor:
    """(B, T, ...): values (M, ...) of the rows (B,), filled up with `pad`. One gather, whatever the batch.

    length: T, to which longer rows are cut; None: the longest row's, rounded up to a multiple of 8.
    """
    starts = offsets.index_select(0, rows)
    lengths = offsets.index_select(0, rows + 1) - starts
    if length is None:
        length = -(-int(lengths.max()) // MULTIPLE) * MULTIPLE if len(rows) else 0
    steps = torch.arange(length, device=values.device)
    outside = steps >= lengths[:, None]  # (B, T)
    if not len(values):
        return values.new_full((*outside.shape, *values.shape[1:]), pad)
    index = (starts[:, None] + steps).clamp_(max=len(values) - 1)
    found = values.index_select(0, index.flatten()).unflatten(0, outside.shape)
    return found.masked_fill_(outside.view(*outside.shape, *[1] * (found.ndim - 2)), pad)


def group_by_length(lengths: Tensor, group: int, generator: torch.Generator) -> Tensor:
    """One epoch's random order of N rows, whose groups of `group` have nearly equal lengths, (N,).

    group: batch size times processes. Rows are permuted and sorted by length within parts of 50 groups; then the
    groups are permuted. The rest that fills no group comes last, of any lengths.
    """
    order = torch.randperm(len(lengths), generator=generator)
    count = len(order) // group
    whole, rest = order[: count * group], order[count * group :]
    parts = [part[lengths[part].argsort(stable=True)] for part in whole.split(PART * group)]
    groups = torch.cat([whole[:0], *parts]).view(count, group)
    return torch.cat([groups[torch.randperm(count, generator=generator)].flatten(), rest])
