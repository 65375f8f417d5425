"""The base of all data modules, which hold facts (shape, number of classes) and make loaders.

Each kind of batch has a subclass in data/kinds/; its source (data/sources/) reads a particular data set.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from unlabeled.data.loader import Loader, ShuffledLoader, Table, WholePass
from unlabeled.data.protocols import Named
from unlabeled.errors import UserError
from unlabeled.files import folder
from unlabeled.seeding import mix

CPU = torch.device("cpu")


class TableData(LightningDataModule):
    """Loaders of tables."""

    batch: ClassVar[type]  # the kind of batch, see batches.py
    noun: ClassVar[str] = "examples"  # what lines and tables call its rows
    shape: tuple[int, ...]  # of one example
    source: Named

    def __init__(
        self,
        source: Named,
        root: str | Path,  # folder of the original files
        batch_size: int,  # per process
        classes: int | None = None,  # number of classes; None where there are no class labels
        epochs: int | None = None,  # a usual length of training on this data, which budget.epochs reads
        packed: str | Path | None = None,  # folder of packed data; default: root/packed
        split_seed: int = 0,  # of the splits; separate from `seed`, so that runs share them
        seed: int = 0,  # of the order of batches
        augment: Callable[[Any], Any] | None = None,  # batch -> batch, on training batches only
    ):
        super().__init__()
        self.source = source
        self.root = folder(root, "data.root")
        self.batch_size = batch_size
        self.classes = classes
        self.packed = self.root / "packed" if packed is None else folder(packed, "data.packed")
        self.split_seed, self.seed = split_seed, seed
        self.augment = augment
        self.keys: dict[str, str] = {}  # split of the source -> key of its content
        self.start = (0, 0)  # (epoch, row of it) at which training begins; callbacks/pace.py sets it for a resumed run

    @property
    def device(self) -> torch.device:
        """The device of batches."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def table(self, split: str) -> Table:
        """The rows of "train", "val" or "test". They never overlap."""
        raise NotImplementedError

    def loader(self, split: str, batch_size: int | None = None) -> Loader:
        """A split in order, for evaluation: every row once over all ranks."""
        return Loader(self.table(split), batch_size or self.batch_size, *self._place())

    def training(self) -> Table:
        """The rows of "train" as training sees them."""
        return self.table("train")

    def train_dataloader(self) -> ShuffledLoader:
        """Training batches: every row once, in order, for methods whose class has `one_pass = True`."""
        whole = self.trainer is not None and getattr(self.trainer.lightning_module, "one_pass", False)
        table = self.table("train") if whole else self.training()
        rank, world = self._place()
        self._check_round(len(table), f"training {self.noun}", "smaller data.val and data.test")
        most = self.trainer.limit_train_batches if self.trainer else None
        if isinstance(most, float):
            if most < 1:
                raise UserError(f"trainer.limit_train_batches={most}: say a whole number of batches")
            most = None
        kind = WholePass if whole else ShuffledLoader
        loader = kind(table, self.batch_size, mix(self.seed, 1), self.augment, rank, world, most)
        loader.epoch, loader.row = self.start
        return loader

    def val_dataloader(self) -> Loader:
        loader = self.loader("val")
        if len(loader.table):
            self._check_round(len(loader.table), f"validation {self.noun}", "a larger data.val, or data.val=0")
        return loader

    def _check_round(self, n: int, what: str, otherwise: str) -> None:
        world = self._place()[1]
        if n < world:
            raise UserError(
                f"data={self.source.name}: {n} {what} do not go round {world} processes: "
                f"use fewer devices, or {otherwise}"
            )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def print_note(line: str) -> None:
    """Print a note, from the main process only."""
    if not getattr(rank_zero_only, "rank", 0):
        print(f"note: {line}", file=sys.stderr, flush=True)
