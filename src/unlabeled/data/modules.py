"""The DataModules: they state facts (shape, number of classes) and hand out batches.

One class per kind of batch; which data set it is, is the source's business (data/sources/).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch import Tensor

from unlabeled.batches import Images, Paired, Unpaired
from unlabeled.data.loader import Loader, ShuffledLoader, Table
from unlabeled.data.packed import Packed, Source, pack
from unlabeled.data.tables import ImageTable, PairedTable, UnpairedTable
from unlabeled.errors import UserError
from unlabeled.seeding import mix


class PackedData(LightningDataModule):
    """What the kinds share: packing, moving to the device, loaders."""

    batch: ClassVar[type]  # the kind of batch, see batches.py

    def __init__(
        self,
        source: Source,
        root: str | Path,  # where the original files lie, or go
        shape: Sequence[int],  # (C, H, W)
        batch_size: int,  # per process
        size: int | None = None,  # the side of square images, which the config's `shape` reads
        classes: int | None = None,  # number of classes; None where there are no class labels
        epochs: int | None = None,  # a usual length of training on this data, which budget.epochs reads
        packed: str | Path | None = None,  # where the packed arrays go; default: root/packed
        val: float = 0.1,  # part of train that becomes val, where the source has no val of its own
        test: float = 0.2,  # part that becomes test, where the source has no test of its own
        split_seed: int = 0,  # decides which images these are; apart from `seed`, so that seeds compare on one split
        seed: int = 0,  # decides the order of batches
        augment: Callable[[Any], Any] | None = None,  # batch -> batch, on training batches only
        device_budget: float = 4.0,  # GiB: a split up to this size moves to the accelerator whole
    ):
        super().__init__()
        self.source = source
        self.root = Path(root)
        self.shape = tuple(shape)
        self.batch_size = batch_size
        self.classes = classes
        self.packed = Path(packed) if packed else self.root / "packed"
        self.val, self.test = val, test
        self.split_seed, self.seed = split_seed, seed
        self.augment = augment
        self.device_budget = device_budget
        self.keys: dict[str, str] = {}  # split of the source -> key of its content
        self._packs: dict[str, Packed] = {}

    def prepare_data(self) -> None:
        for split in self.source.splits:
            self.pack(split)

    def pack(self, split: str) -> Packed:
        """A split of the source, packed and memory-mapped."""
        if split not in self._packs:
            self._packs[split] = pack(self.source, self.root, self.packed, split, self.shape)
            self.keys[split] = self._packs[split].key
        return self._packs[split]

    def resident(self, array: Tensor) -> Tensor:
        """The array on the training device where it fits the budget, else as it is."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type == "cpu" or array.nbytes > self.device_budget * 2**30:
            return array
        return array.to(device)

    def table(self, split: str) -> Table:
        """The rows of "train", "val" or "test". They never overlap."""
        raise NotImplementedError  # a kind's business; the base is never instantiated

    def loader(self, split: str, batch_size: int | None = None) -> Loader:
        """A split in order, for evaluation: every row once over all ranks."""
        return Loader(self.table(split), batch_size or self.batch_size, *self._place())

    def train_dataloader(self) -> ShuffledLoader:
        table = self.table("train")
        if not len(table):
            raise UserError(f"data={self.source.name}: no training images are left after the splits")
        return ShuffledLoader(table, self.batch_size, mix(self.seed, 1), self.augment, *self._place())

    def val_dataloader(self) -> Loader:
        return self.loader("val")

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def cut(self, n: int, held_out: float) -> tuple[Tensor, Tensor]:
        """Rows of n, split by `split_seed` into (kept, held out), each in ascending order."""
        order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.split_seed, n)))
        m = round(n * held_out)
        return order[m:].sort().values, order[:m].sort().values

    def divide(self, split: str, suffix: str = "") -> tuple[str, Tensor | None]:
        """(source split, rows) that make up our split; suffix is "_a" or "_b" where there are two domains."""
        own = f"{split}{suffix}"
        train = f"train{suffix}"
        if split != "train" and own in self.source.splits:
            return own, None
        rows = torch.arange(len(self.pack(train).images))
        if f"test{suffix}" not in self.source.splits:
            kept, held_out = self.cut(len(rows), self.test)
            if split == "test":
                return train, rows[held_out]
            rows = rows[kept]
        if f"val{suffix}" not in self.source.splits:
            kept, held_out = self.cut(len(rows), self.val)
            rows = rows[held_out] if split == "val" else rows[kept]
        return train, rows


class ImageData(PackedData):
    """Single images, with labels that unsupervised methods ignore."""

    batch = Images

    def table(self, split: str) -> ImageTable:
        own, rows = self.divide(split)
        packed = self.pack(own)
        return ImageTable(self.resident(packed.images), self.resident(packed.labels), rows)


class UnpairedData(PackedData):
    """Two domains without correspondence. Where the source knows pairs of val and test, evaluation gets them."""

    batch = Unpaired

    def table(self, split: str) -> UnpairedTable:
        (a, rows_a), (b, rows_b) = self.divide(split, "_a"), self.divide(split, "_b")
        return UnpairedTable(self.resident(self.pack(a).images), self.resident(self.pack(b).images), rows_a, rows_b)

    @property
    def pairs_known(self) -> bool:
        """Whether row i of test's a and b are one scene, so that a translation can be held against the truth."""
        return getattr(self.source, "pairs_known", False)


class PairedData(PackedData):
    """Two domains, row by row."""

    batch = Paired
    pairs_known = True

    def table(self, split: str) -> PairedTable:
        (a, rows), (b, _) = self.divide(split, "_a"), self.divide(split, "_b")
        return PairedTable(self.resident(self.pack(a).images), self.resident(self.pack(b).images), rows)
