"""Points drawn from a known mixture, on which mode collapse can be counted."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Points
from unlabeled.data.module import CPU, TableData
from unlabeled.data.packed import SPLITS
from unlabeled.data.sources.mixtures import Mixture
from unlabeled.errors import UserError
from unlabeled.seeding import mix


class PointTable:
    """Points and their modes."""

    def __init__(self, x: Tensor, labels: Tensor, device: torch.device = CPU):
        self.x = x.to(device)  # (N, D)
        self.labels = labels.to(device)  # (N,) int64
        self.rows = torch.arange(len(x))
        self.device = device

    def __len__(self) -> int:
        return len(self.x)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Points:
        index = index.to(self.device)
        return Points(self.x.index_select(0, index), self.labels.index_select(0, index))


class PointData(TableData):
    """Points of a mixture for each split, drawn by `split_seed`; nothing is fetched or packed."""

    source: Mixture
    batch = Points
    noun = "points"

    def __init__(
        self,
        source: Mixture,
        shape: tuple[int],  # (D,)
        train: int = 100_000,  # points
        val: int = 2_500,
        test: int = 10_000,
        **common: Any,  # see TableData
    ):
        super().__init__(source, **common)
        self.shape = tuple(shape)
        self.sizes = dict(zip(SPLITS, (train, val, test), strict=True))
        self._tables: dict[tuple[str, torch.device], PointTable] = {}

    def prepare_data(self) -> None:
        if self.batch_size < 1 or min(self.sizes.values()) < 1:
            raise UserError("data.batch_size, data.train, data.val and data.test must be at least 1")
        if self.shape != (self.source.dimensions,):
            raise UserError(f"data.shape={list(self.shape)}, but its points have {self.source.dimensions} numbers each")
        for split in SPLITS:
            self.table(split)

    def table(self, split: str) -> PointTable:
        if split not in SPLITS:
            raise UserError(f"no split {split!r}: say train, val or test")
        place = (split, self.device)
        if place not in self._tables:
            generator = torch.Generator().manual_seed(mix(self.split_seed, SPLITS.index(split)))
            x, y = self.source.draw(self.sizes[split], generator)
            digest = hashlib.sha256(x.numpy().tobytes()).hexdigest()[:12]
            self.keys[split] = f"{self.source.name}-{split}-{digest}"
            self._tables[place] = PointTable(x, y, self.device)
        return self._tables[place]
