"""Batches of the data path against a torchvision-style data set under a DataLoader, from memory.

Both hand out the same batches of 64, shuffled: floats in [-1, 1] and labels.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.common import Row, row, timed, turns
from unlabeled.data.kinds.images import ImageTable
from unlabeled.data.loader import ShuffledLoader

IMAGES, BATCH = 50_000, 64


class PerImage(Dataset):
    """How torchvision's CIFAR10 serves an image: from an array to Pillow, to a tensor, normalized."""

    def __init__(self, images: np.ndarray, labels: list[int]):
        self.images, self.labels = images, labels  # (N, H, W, C) uint8
        self.transform = Compose([ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def endless(loader: DataLoader | ShuffledLoader) -> Iterator[object]:
    while True:
        yield from loader


def batches(given: Iterator[object], n: int) -> Callable[[], None]:
    def work() -> None:
        for _ in islice(given, n):
            pass

    return work


def rows(rounds: int) -> Iterator[Row]:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, IMAGES)
    table = ImageTable(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
    ours = timed(batches(endless(ShuffledLoader(table, BATCH, seed=0)), 60))
    for workers in (0, 2):
        loader = DataLoader(
            PerImage(images, labels.tolist()), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        theirs = endless(loader)
        pairs = turns(ours, timed(batches(theirs, 60)), rounds)
        other = f"a torchvision-style data set, DataLoader with {workers} workers"
        clock = "wall" if workers else "cpu"
        yield row("data", "batches of 64, 32x32 RGB", other, pairs, clock, 0.06, "ms a batch")
