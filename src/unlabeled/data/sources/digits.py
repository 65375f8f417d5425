"""The handwritten digits that ship inside scikit-learn: 1,797 images, 8x8 grey, 17 levels. No download."""

from pathlib import Path

import numpy as np

from unlabeled.data.packing import RawImages


class Digits:
    """Optical recognition of handwritten digits, test part. Alpaydin & Kaynak 1998, UCI repository."""

    name = "digits"
    splits = ("train",)

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return "sklearn-1797"

    def read(self, root: Path, split: str) -> RawImages:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return RawImages((digits.images * (255 / 16)).round().astype(np.uint8), digits.target)
