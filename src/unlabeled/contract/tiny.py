"""A few smooth images, so that a contract is checked in seconds."""

from pathlib import Path

import numpy as np
import torch

from unlabeled.data.packing import RawImages


class Tiny:
    """Eight images of two classes for each split, drawn from a seed; domain b is domain a with its sides swapped."""

    name = "tiny"
    pairs_known = True

    def __init__(
        self, splits: tuple[str, ...] = ("train", "val", "test"), n: int = 8, unlabelled: int | None = None
    ) -> None:
        self.splits = tuple(splits)
        self.n = n
        self.unlabelled = unlabelled or 0  # so many, the first, have no label

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return f"tiny-1-{self.n}-{self.unlabelled}"

    def read(self, root: Path, split: str) -> RawImages:
        g = torch.Generator().manual_seed(sum(map(ord, split)))
        coarse = torch.rand(self.n, 1, 4, 4, generator=g)
        images = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")[:, 0]
        labels = np.arange(self.n) % 2
        levels = (images * 255).round().to(torch.uint8).numpy()
        levels[labels == 1] = 255 - levels[labels == 1]
        labels[: self.unlabelled] = -1
        return RawImages(list(levels.transpose(0, 2, 1) if split.endswith("_b") else levels), labels)
