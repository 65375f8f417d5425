"""Packed images as tables: rows by index, as bytes to where they are wanted, converted to [-1, 1] there."""

import torch
from torch import Tensor

from unlabeled.batches import Images, Paired, Unpaired, from_uint8

CPU = torch.device("cpu")


def take(images: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Rows of uint8 images (N, C, H, W) as floats (B, C, H, W) in [-1, 1] on `device`."""
    return from_uint8(images.index_select(0, rows.to(images.device)).to(device))


class ImageTable:
    """Images and their labels."""

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor | None = None, device: torch.device = CPU):
        self.images = images  # (N, C, H, W) uint8
        self.labels = labels.to(device)  # (N,) or (N, A) int64
        self.rows = torch.arange(len(images)) if rows is None else rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Images:
        rows = self.rows.index_select(0, index)
        return Images(take(self.images, rows, self.device), self.labels.index_select(0, rows.to(self.device)))


class PairedTable:
    """Pairs: row i of a belongs to row i of b."""

    def __init__(self, a: Tensor, b: Tensor, rows: Tensor | None = None, device: torch.device = CPU):
        self.a, self.b = a, b  # (N, C, H, W) uint8
        self.rows = torch.arange(len(a)) if rows is None else rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Paired:
        rows = self.rows.index_select(0, index)
        return Paired(take(self.a, rows, self.device), take(self.b, rows, self.device))


class UnpairedTable:
    """Two domains. An epoch is as long as the larger one; the smaller one starts again, in a new order."""

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        rows_a: Tensor | None = None,
        rows_b: Tensor | None = None,
        device: torch.device = CPU,
    ):
        self.a, self.b = a, b  # (N, C, H, W), (M, C, H, W) uint8
        self.rows_a = torch.arange(len(a)) if rows_a is None else rows_a
        self.rows_b = torch.arange(len(b)) if rows_b is None else rows_b
        self.device = device

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
        """Rows of both; a flat index (evaluation's) is the same place in both, modulo their lengths."""
        pair = torch.stack([index, index], 1) if index.ndim == 1 else index
        a = self.rows_a.index_select(0, pair[:, 0] % len(self.rows_a))
        b = self.rows_b.index_select(0, pair[:, 1] % len(self.rows_b))
        return Unpaired(take(self.a, a, self.device), take(self.b, b, self.device))
