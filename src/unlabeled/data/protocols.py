"""What a data set's source, and the data module built on it, have to offer."""

from pathlib import Path
from typing import Protocol, TypeVar

from unlabeled.data.content import Files

Raw = TypeVar("Raw", covariant=True)


class Source(Protocol[Raw]):
    """The files of a data set. Raw: one split as it is read, as RawImages (packing.py)."""

    @property
    def name(self) -> str:
        """What a user types after `data=`."""

    @property
    def splits(self) -> tuple[str, ...]:
        """ "train", and perhaps "val", "test"; with two domains "train_a", "train_b", "test_a", ..."""

    def prepare(self, root: Path) -> None:
        """See that the files lie under `root`, whole: download, verify, extract. Raises UserError."""

    def fingerprint(self, root: Path) -> str | Files:
        """Changes when the content does: checksums of archives that were verified, or the files themselves."""

    def read(self, root: Path, split: str) -> Raw:
        """One split's examples and labels. Raises UserError for files that are not whole."""
