"""STL-10: 5,000 labelled and 100,000 unlabelled training images."""

from pathlib import Path

import numpy as np

from unlabeled.data.packing import RawImages
from unlabeled.data.sources.archive import Archive, check_counts
from unlabeled.errors import UserError


class STL10(Archive):
    """Ten kinds of things at 96x96. Coates et al. 2011, https://cs.stanford.edu/~acoates/stl10/

    Train is the 5,000 labelled images followed by the 100,000 unlabelled ones, whose label is -1.
    The files lie in ROOT/stl10_binary, as torchvision has them.
    """

    name = "stl10"
    folder = "stl10_binary"
    archive = "stl10_binary.tar.gz"
    checksum = "91f7769df0f17e558f3565bffb0c7dfb"  # md5
    splits = ("train", "test")
    counts = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}

    def read(self, root: Path, split: str) -> RawImages:
        folder = root / self.folder
        labelled = self._images(folder / f"{split}_X.bin")
        labels = self._bytes(folder / f"{split}_y.bin").astype(np.int64) - 1  # the files count from 1
        if len(labels) != len(labelled):
            raise UserError(f"{folder} is not whole: remove it and run again")
        parts = {split: labelled}
        if split == "train":
            parts["unlabeled"] = more = self._images(folder / "unlabeled_X.bin")
        places = [(folder, f"{part} images", len(found), self.counts[part]) for part, found in parts.items()]
        check_counts(self.name, places, f"remove {folder} to have it fetched")
        if split == "test":
            return RawImages(labelled, labels)
        everything = (image for images in (labelled, more) for image in images)  # never in memory at once
        return RawImages(everything, np.concatenate([labels, np.full(len(more), -1)]))

    def _images(self, path: Path) -> np.ndarray:
        """(N, 96, 96, 3), memory-mapped; the files hold each colour's columns one after the other."""
        data = self._bytes(path)
        if not len(data) or len(data) % (3 * 96 * 96):
            raise UserError(f"{path} is not whole: remove the folder {path.parent} and run again")
        return data.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)

    def _bytes(self, path: Path) -> np.ndarray:
        try:
            return np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path} ({error}): remove {path.parent} and run again") from error
