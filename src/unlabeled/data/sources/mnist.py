"""MNIST and data sets in its format of four idx files."""

import gzip
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from unlabeled.data.content import Files
from unlabeled.data.download.archives import File, fetch
from unlabeled.data.packing import RawImages
from unlabeled.data.sources.archive import check_counts
from unlabeled.errors import UserError


class MNIST:
    """Handwritten digits. LeCun et al. 1998, http://yann.lecun.com/exdb/mnist/

    The files lie in ROOT/MNIST/raw, gzipped or not, as torchvision has them; they are read in place. Gzipped
    files are checked by checksums; unzipped ones by the published numbers of images, and identified by their content.
    """

    name = "mnist"
    folder = "MNIST/raw"
    splits = ("train", "test")
    checksums = {  # md5
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    counts = {"train": 60_000, "test": 10_000}
    unzipped = "8db4eb91ea26f9680687888341ea14a726936529083b8120f68ea553a3822a9f"  # digest of the four files

    def __init__(self, mirrors: Sequence[str]):  # addresses of folders with the four files
        self.mirrors = mirrors

    def prepare(self, root: Path) -> None:
        folder = root / self.folder
        for name, checksum in self.checksums.items():
            if not (folder / name.removesuffix(".gz")).is_file():
                fetch(File(name, [f"{mirror.rstrip('/')}/{name}" for mirror in self.mirrors], checksum), folder)

    def fingerprint(self, root: Path) -> str | Files:
        verified = " ".join(self.checksums.values())
        paths = {name: root / self.folder / name.removesuffix(".gz") for name in self.checksums}
        unzipped = {name: path for name, path in paths.items() if path.is_file()}
        return Files(unzipped, {self.unzipped: verified}) if unzipped else verified

    def read(self, root: Path, split: str) -> RawImages:
        part = {"train": "train", "test": "t10k"}[split]
        folder = root / self.folder
        images = read_idx(folder / f"{part}-images-idx3-ubyte", 3)
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte", 1)
        check_counts(
            self.name,
            [
                (folder, f"{split} {what}", len(found), self.counts[split])
                for what, found in (("images", images), ("labels", labels))
            ],
            "remove it to have it fetched",
        )
        return RawImages(images, labels)


class FashionMNIST(MNIST):
    """Articles of clothing in MNIST's format. Xiao et al. 2017, https://arxiv.org/abs/1708.07747"""

    name = "fashion_mnist"
    folder = "FashionMNIST/raw"
    unzipped = ""  # not published
    checksums = {  # md5
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An idx file of bytes, gzipped (PATH.gz) or not. Raises UserError if it is not whole."""
    if not path.is_file():
        path = path.with_name(f"{path.name}.gz")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path} ({error}): remove it and run again") from error
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) != start + prod(shape):
        raise UserError(f"{path} is not a whole idx file with {axes} axes: remove it and run again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
