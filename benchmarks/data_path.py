"""Batches per second of the data path against a torchvision-style data set under a DataLoader, on one core.

Both read the same 50,000 images of 3x32x32 from memory and hand out the same batches, shuffled: floats in
[-1, 1] and labels. One run prints both rates and their ratio: python benchmarks/data_path.py
"""

import time
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from unlabeled.data.loader import ShuffledLoader
from unlabeled.data.tables import ImageTable

N, BATCH = 50_000, 64


class PerImage(Dataset):
    """How torchvision's CIFAR10 serves an image: from an array to Pillow, to a tensor, normalized."""

    def __init__(self, images: np.ndarray, labels: list[int]):
        self.images, self.labels = images, labels  # (N, H, W, C) uint8
        self.transform = Compose([ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def rate(batches: Iterable, most: int) -> float:
    """Batches per second, after ten to warm up."""
    start = 0.0
    for i, _ in enumerate(batches):
        if i == 10:
            start = time.perf_counter()
        if i == most + 10:
            break
    return (i - 10) / (time.perf_counter() - start)


def main() -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, N)
    table = ImageTable(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
    ours = ShuffledLoader(table, BATCH, seed=0)
    theirs = DataLoader(PerImage(images, labels.tolist()), BATCH, shuffle=True, drop_last=True, num_workers=0)
    rounds = [(rate(ours, 700), rate(theirs, 100)) for _ in range(5)]
    fast, slow = (float(np.median(column)) for column in zip(*rounds, strict=True))
    print(f"50,000 images of 3x32x32, batches of {BATCH}, one core, median of five rounds")
    print(f"unlabeled             {fast:8.0f} batches/s  {fast * BATCH:10,.0f} images/s")
    print(f"torchvision-style     {slow:8.0f} batches/s  {slow * BATCH:10,.0f} images/s")
    print(f"ratio                 {fast / slow:8.1f}")


if __name__ == "__main__":
    main()
