"""Images of two domains, paired or unpaired."""

import torch
from torch import Tensor

from unlabeled.batches import Paired, Unpaired
from unlabeled.data.kinds.images import PackedImages, take
from unlabeled.data.module import CPU
from unlabeled.errors import UserError


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
    """Two domains. An epoch covers the larger one; the smaller one is repeated in a new order."""

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
        """Rows of both; a flat index (evaluation's) means the same row of both, modulo their lengths."""
        pair = torch.stack([index, index], 1) if index.ndim == 1 else index
        a = self.rows_a.index_select(0, pair[:, 0] % len(self.rows_a))
        b = self.rows_b.index_select(0, pair[:, 1] % len(self.rows_b))
        return Unpaired(take(self.a, a, self.device), take(self.b, b, self.device))


class UnpairedData(PackedImages):
    """Two domains without pairs. Evaluation gets the pairs of val and test where the source knows them."""

    batch = Unpaired

    def table(self, split: str) -> UnpairedTable:
        (a, rows_a), (b, rows_b) = self.divide(split, "_a"), self.divide(split, "_b")
        images_a, images_b = (self.resident(self.pack(domain))["images"] for domain in (a, b))
        table = UnpairedTable(images_a, images_b, rows_a, rows_b, self.device)
        if split == "train" and not (len(table.rows_a) and len(table.rows_b)):
            raise UserError(f"data={self.source.name}: a domain has no training images left after the splits")
        return table

    @property
    def pairs_known(self) -> bool:
        """Whether rows i of the test split's a and b show the same scene, so that translations have a ground truth."""
        return getattr(self.source, "pairs_known", False)


class PairedData(PackedImages):
    """Two domains, row by row."""

    batch = Paired
    pairs_known = True

    def table(self, split: str) -> PairedTable:
        (a, rows), (b, _) = self.divide(split, "_a"), self.divide(split, "_b")
        images_a, images_b = (self.resident(self.pack(domain))["images"] for domain in (a, b))
        return PairedTable(images_a, images_b, rows, self.device)
