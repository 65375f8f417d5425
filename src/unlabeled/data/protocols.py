"""Protocols of data sources and data modules."""

from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from unlabeled.data.content import Files
from unlabeled.data.loader import Loader, Table

Raw = TypeVar("Raw", covariant=True)


class Named(Protocol):
    """Where examples come from."""

    @property
    def name(self) -> str:
        """What a user types after `data=`."""


class Source(Named, Protocol[Raw]):
    """The files of a data set. Raw: one split as it is read, as RawImages (packing.py)."""

    @property
    def splits(self) -> tuple[str, ...]:
        """ "train", and perhaps "val", "test"; with two domains "train_a", "train_b", "test_a", ..."""

    def prepare(self, root: Path) -> None:
        """Make the files available under `root`: download, verify, extract. Raises UserError."""

    def fingerprint(self, root: Path) -> str | Files:
        """An identity of the content: checksums of verified archives, or the files themselves."""

    def read(self, root: Path, split: str) -> Raw:
        """One split's examples and labels. Raises UserError for incomplete files."""


class TrainingBatches(Protocol):
    """A loader of training batches, see loader.py."""

    table: Table
    step: int  # rows of a step of all ranks
    row: int  # the next one of the current epoch

    def __len__(self) -> int: ...

    @property
    def epoch_rows(self) -> int: ...

    @property
    def steps_left(self) -> int: ...


class DataModule(Protocol):
    """A data set as the program and callbacks use it, whatever its kind."""

    batch: ClassVar[type]  # the kind of batch, see batches.py
    noun: ClassVar[str]  # what its rows are called
    shape: tuple[int, ...]  # of one example
    classes: int | None
    keys: dict[str, str]  # split of the source -> key of its content
    root: Path
    packed: Path
    start: tuple[int, int]  # (epoch, row of it) at which training begins

    @property
    def source(self) -> Named: ...

    def prepare_data(self) -> None: ...

    def table(self, split: str) -> Table: ...

    def loader(self, split: str, batch_size: int | None = None) -> Loader: ...

    def train_dataloader(self) -> TrainingBatches: ...
