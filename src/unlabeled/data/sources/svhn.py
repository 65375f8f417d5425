"""Street View House Numbers: two Matlab files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unlabeled.data.download.archives import File, fetch
from unlabeled.data.packing import RawImages
from unlabeled.errors import UserError


class SVHN:
    """Digits of house numbers, cropped. Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers/

    The files lie in ROOT/svhn. The 531,131 easier images of the `extra` file are left out, as most papers do.
    """

    name = "svhn"
    folder = "svhn"
    splits = ("train", "test")
    checksums = {  # md5
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    }

    def __init__(self, mirrors: Sequence[str]):  # addresses of folders with the two files
        self.mirrors = mirrors

    def prepare(self, root: Path) -> None:
        for name, checksum in self.checksums.items():
            urls = [f"{mirror.rstrip('/')}/{name}" for mirror in self.mirrors]
            fetch(File(name, urls, checksum), root / self.folder)

    def fingerprint(self, root: Path) -> str:
        return " ".join(self.checksums.values())

    def read(self, root: Path, split: str) -> RawImages:
        from scipy.io import loadmat

        path = root / self.folder / f"{split}_32x32.mat"
        try:
            content = loadmat(path)
            images, labels = content["X"], content["y"]  # (32, 32, 3, N), (N, 1)
        except Exception as error:  # a broken file makes scipy raise nearly anything
            raise UserError(f"cannot read {path} ({error}): remove it and run again") from error
        return RawImages(images.transpose(3, 0, 1, 2), labels[:, 0].astype(np.int64) % 10)  # the file calls zero 10
