"""CIFAR-10 and CIFAR-100: archives of Python pickles, unpickled without running code from them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.packing import RawImages
from unlabeled.data.sources.archive import Archive, check_counts
from unlabeled.errors import UserError


class CIFAR10(Archive):
    """Ten kinds of things at 32x32. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html

    The files lie in ROOT/cifar-10-batches-py, as torchvision has them.
    """

    name = "cifar10"
    folder = "cifar-10-batches-py"
    archive = "cifar-10-python.tar.gz"
    checksum = "c58f30108f718f92721af3b95e74349a"  # md5
    splits = ("train", "test")
    parts = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    labels = "labels"
    counts = {"train": 50_000, "test": 10_000}

    def read(self, root: Path, split: str) -> RawImages:
        batches = [load(root / self.folder / part) for part in self.parts[split]]
        images = np.concatenate([batch["data"] for batch in batches])  # (N, 3072): red, green, blue planes
        labels = np.concatenate([np.asarray(batch[self.labels]) for batch in batches])
        place = (root / self.folder, f"{split} images", len(images), self.counts[split])
        check_counts(self.name, [place], f"remove {root / self.folder} to have it fetched")
        return RawImages(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels)


class CIFAR100(CIFAR10):
    """A hundred kinds of things at 32x32, by their fine labels. The files lie in ROOT/cifar-100-python."""

    name = "cifar100"
    folder = "cifar-100-python"
    archive = "cifar-100-python.tar.gz"
    checksum = "eb9058c3a382ffc7106e4002c42a8d85"  # md5
    parts = {"train": ["train"], "test": ["test"]}
    labels = "fine_labels"


class Arrays(pickle.Unpickler):
    """Unpickles numbers, strings, lists, dictionaries and numpy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ("_reconstruct", "ndarray", "dtype") and module.split(".")[0] == "numpy":
            return {"_reconstruct": _reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in an old protocol
            return _encode
        raise pickle.UnpicklingError(f"asks for {module}.{name}")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    return np.ndarray((0,), np.uint8)  # an empty array, which the pickle then fills


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def load(path: Path) -> dict[str, Any]:
    """One pickle of CIFAR's. Raises UserError if it is not whole, or anything but data."""
    try:
        with open(path, "rb") as file:
            batch = Arrays(file, encoding="latin1").load()
        if batch["data"].shape[1:] == (3072,) and batch["data"].dtype == np.uint8:
            return batch
        reason = "no images of 3x32x32"
    except Exception as error:  # bytes at random make an unpickler raise anything
        reason = str(error)
    raise UserError(f"cannot read {path} ({reason}): remove the folder {path.parent} and run again")
