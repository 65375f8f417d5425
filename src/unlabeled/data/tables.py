"""Packed images as tables: rows by index, converted to [-1, 1] on the device where they lie."""

import torch
from torch import Tensor

from unlabeled.batches import Images, Paired, Unpaired, from_uint8


class ImageTable:
    """Images and their labels."""

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor | None = None):
        self.images = images  # (N, C, H, W) uint8
        self.labels = labels  # (N,) or (N, A) int64
        self.rows = torch.arange(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Images:
        rows = self.rows[index].to(self.images.device)
        return Images(from_uint8(self.images.index_select(0, rows)), self.labels.index_select(0, rows))


class PairedTable:
    """Pairs: row i of a belongs to row i of b."""

    def __init__(self, a: Tensor, b: Tensor, rows: Tensor | None = None):
        self.a, self.b = a, b  # (N, C, H, W) uint8
        self.rows = torch.arange(len(a)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Paired:
        rows = self.rows[index].to(self.a.device)
        return Paired(from_uint8(self.a.index_select(0, rows)), from_uint8(self.b.index_select(0, rows)))


class UnpairedTable:
    """Two domains. An epoch is as long as the larger one; the smaller one starts again, in a new order."""

    def __init__(self, a: Tensor, b: Tensor, rows_a: Tensor | None = None, rows_b: Tensor | None = None):
        self.a, self.b = a, b  # (N, C, H, W), (M, C, H, W) uint8
        self.rows_a = torch.arange(len(a)) if rows_a is None else rows_a
        self.rows_b = torch.arange(len(b)) if rows_b is None else rows_b

    def __len__(self) -> int:
        return max(len(self.rows_a), len(self.rows_b))

    def order(self, generator: torch.Generator) -> Tensor:
        """(len, 2): an index into each domain."""
        columns = []
        for n in (len(self.rows_a), len(self.rows_b)):
            rounds = [torch.randperm(n, generator=generator) for _ in range(-(-len(self) // n))]
            columns.append(torch.cat(rounds)[: len(self)])
        return torch.stack(columns, 1)

    def batch(self, index: Tensor) -> Unpaired:
        """Rows of both; a flat index (evaluation's) stands for the same place in both, modulo their lengths."""
        pair = torch.stack([index, index], 1) if index.ndim == 1 else index
        a = self.rows_a[pair[:, 0] % len(self.rows_a)].to(self.a.device)
        b = self.rows_b[pair[:, 1] % len(self.rows_b)].to(self.b.device)
        return Unpaired(from_uint8(self.a.index_select(0, a)), from_uint8(self.b.index_select(0, b)))
