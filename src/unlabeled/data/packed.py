"""Data modules whose data set is packed on disk once and split into train, val and test."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.module import TableData, print_note
from unlabeled.data.protocols import Source
from unlabeled.data.store import Packed
from unlabeled.errors import UserError
from unlabeled.seeding import mix

SPLITS = ("train", "val", "test")


class PackedData(TableData):
    """Splits, and arrays on the training device. A subclass packs its kind of examples."""

    source: Source

    def __init__(
        self,
        source: Source,
        root: str | Path,  # folder of the original files
        batch_size: int,  # per process
        val: float = 0.1,  # share of train for val, where the source has no val split
        test: float = 0.2,  # share of train for test, where the source has no test split
        device_gib: float = 4.0,  # GiB of the accelerator that whole splits may fill
        **common: Any,  # see TableData
    ):
        super().__init__(source, root, batch_size, **common)
        self.val, self.test = val, test
        self.device_gib = device_gib
        self._packs: dict[str, Packed] = {}
        self._summarized = False
        self._resident: dict[str, dict[str, Tensor]] = {}  # key -> arrays on the training device

    def make(self, split: str) -> Packed:
        """A split of the source, packed now if it is not there yet."""
        raise NotImplementedError

    def summary(self) -> str:
        """What was found when the data set was packed, in one line."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        if self.batch_size < 1 or not (0 <= self.val < 1 and 0 <= self.test < 1):
            raise UserError("data.batch_size must be at least 1, data.val and data.test shares in [0, 1)")
        for split in self.source.splits:
            self.pack(split)
        if not self._summarized and any(packed.new for packed in self._packs.values()):
            print_note(self.summary())
        self._summarized = True

    def pack(self, split: str) -> Packed:
        """A split of the source, packed and memory-mapped."""
        if split not in self._packs:
            self._packs[split] = self.make(split)
            self.keys[split] = self._packs[split].key
        return self._packs[split]

    def resident(self, packed: Packed) -> dict[str, Tensor]:
        """The arrays without the labels, on the training device while `device_gib` suffices, else unchanged."""
        if packed.key not in self._resident:
            arrays = {name: array for name, array in packed.arrays.items() if name != "labels"}
            taken = sum(array.nbytes for held in [*self._resident.values(), arrays] for array in held.values())
            if self.device.type == "cpu" or taken > self.device_gib * 2**30:
                return arrays
            self._resident[packed.key] = {name: array.to(self.device) for name, array in arrays.items()}
        return self._resident[packed.key]

    def cut(self, n: int, share: float) -> tuple[Tensor, Tensor]:
        """Rows of n, split by `split_seed` into (kept, held out), each in ascending order."""
        order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.split_seed, n)))
        m = max(round(n * share), 1 if share and n > 1 else 0)
        return order[m:].sort().values, order[:m].sort().values

    def divide(self, split: str, suffix: str = "") -> tuple[str, Tensor | None]:
        """(source split, rows) of our split; suffix is "_a" or "_b" where there are two domains."""
        if split not in SPLITS:
            raise UserError(f"no split {split!r}: say train, val or test")
        own = f"{split}{suffix}"
        train = f"train{suffix}"
        if split != "train" and own in self.source.splits:
            return own, None
        rows = torch.arange(len(self.pack(train).labels))
        if f"test{suffix}" not in self.source.splits:
            kept, held_out = self.cut(len(rows), self.test)
            if split == "test":
                return train, rows[held_out]
            rows = rows[kept]
        if f"val{suffix}" not in self.source.splits:
            kept, held_out = self.cut(len(rows), self.val)
            rows = rows[held_out] if split == "val" else rows[kept]
        return train, rows
