"""Single images, packed as bytes and converted to [-1, 1] batch by batch."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.batches import Images, from_uint8
from unlabeled.data.labelled import LabelledData
from unlabeled.data.module import CPU
from unlabeled.data.packed import PackedData
from unlabeled.data.packing import RawImages, pack
from unlabeled.data.protocols import Source
from unlabeled.data.store import Packed
from unlabeled.data.summary import left_out, summary


def take(images: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Rows of uint8 images (N, C, H, W) as floats (B, C, H, W) in [-1, 1] on `device`."""
    return from_uint8(images.index_select(0, rows.to(images.device)).to(device))


class ImageTable:
    """Images and their labels."""

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor | None = None, device: torch.device = CPU):
        self.images = images  # (N, C, H, W) uint8
        self.labels = labels.to(device)  # (N,) or (N, A) int64
        self.rows = torch.arange(len(images)) if rows is None else rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, index: Tensor) -> Images:
        rows = self.rows.index_select(0, index)
        return Images(take(self.images, rows, self.device), self.labels.index_select(0, rows.to(self.device)))


class PackedImages(PackedData):
    """Data sets of images of one size, of one domain or two."""

    shape: tuple[int, int, int]
    noun = "images"

    def __init__(
        self,
        source: Source[RawImages],
        root: str | Path,  # where the original files lie, or go
        shape: tuple[int, int, int],  # (C, H, W)
        batch_size: int,  # per process
        size: int | None = None,  # the side of square images, which the config's `shape` reads
        **common: Any,  # see PackedData
    ):
        super().__init__(source, root, batch_size, **common)
        channels, height, width = shape
        self.shape = (channels, height, width)

    def make(self, split: str) -> Packed:
        return pack(self.source, self.root, self.packed, split, self.shape)

    def summary(self) -> str:
        return summary(self)

    def left_out(self) -> str:
        """Files and folders that are not among the images, and why; "" where all are."""
        return left_out(self)


class ImageData(LabelledData, PackedImages):
    """Single images, with labels that unsupervised methods ignore; see LabelledData."""

    batch: ClassVar[type] = Images

    def make_table(self, packed: Packed, labels: Tensor, rows: Tensor | None) -> ImageTable:
        return ImageTable(self.resident(packed)["images"], labels, rows, self.device)
