"""Pairs and domains made from single images by a degradation, batch by batch on the device."""

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.batches import Images, Paired, Unpaired
from unlabeled.data.kinds.images import ImageData, ImageTable
from unlabeled.data.kinds.pairs import UnpairedTable
from unlabeled.errors import UserError
from unlabeled.seeding import mix


class Degradation(Protocol):
    """x (B, C, H, W) in [-1, 1] -> degraded images (B, C, h, w); `repr` names all that it depends on."""

    random: bool  # whether it draws, from torch's generator of the CPU

    def __call__(self, x: Tensor) -> Tensor: ...


@torch.no_grad()
def degraded(degradation: Degradation, x: Tensor) -> Tensor:
    """Degraded images in the size of x: smaller ones are enlarged, bicubic."""
    made = degradation(x)
    if made.shape[2:] == x.shape[2:]:
        return made
    # antialias=True has no effect on enlarging but the kernel, which is then that of MATLAB's imresize
    return interpolate(made, x.shape[2:], mode="bicubic", antialias=True).clamp_(-1, 1)


def degraded_rows(degradation: Degradation, x: Tensor, rows: Tensor, seed: int) -> Tensor:
    """`degraded`, where what is drawn for an image is a function of `seed` and its row (B,) alone."""
    if not degradation.random:
        return degraded(degradation, x)
    made = []
    with torch.random.fork_rng([]):
        for row, image in zip(rows.tolist(), x.split(1), strict=True):
            torch.default_generator.manual_seed(mix(seed, row))
            made.append(degraded(degradation, image))
    return torch.cat(made) if made else x


class DegradedTable:
    """Pairs: images b, and a, the same images degraded."""

    def __init__(self, images: ImageTable, degradation: Degradation, seed: int):
        self.images, self.degradation, self.seed = images, degradation, seed
        self.rows, self.labels = images.rows, images.labels

    def __len__(self) -> int:
        return len(self.images)

    def order(self, generator: torch.Generator) -> Tensor:
        return self.images.order(generator)

    def batch(self, index: Tensor) -> Paired:
        b = self.images.batch(index).x
        return Paired(degraded_rows(self.degradation, b, self.rows[index], self.seed), b)


class DegradedDomainTable(UnpairedTable):
    """Two domains: images a, and images b, which are degraded."""

    def __init__(self, images: ImageTable, rows_a: Tensor, rows_b: Tensor, degradation: Degradation, seed: int):
        super().__init__(images.images, images.images, rows_a, rows_b, images.device)
        self.degradation, self.seed = degradation, seed
        self.labels = images.labels

    def batch(self, index: Tensor) -> Unpaired:
        a, b = super().batch(index)
        own = index if index.ndim == 1 else index[:, 1]
        rows = self.rows_b[own % len(self.rows_b)]
        return Unpaired(a, degraded_rows(self.degradation, b, rows, self.seed))


class DegradeAfter:
    """Augmentation of training batches, and the degradation of what it leaves."""

    def __init__(self, degradation: Degradation, augment: Any):
        self.degradation, self.augment = degradation, augment

    def __call__(self, batch: Images | Unpaired) -> Paired | Unpaired:
        if self.augment is not None:
            batch = self.augment(batch)
        if isinstance(batch, Images):
            return Paired(degraded(self.degradation, batch.x), batch.x)
        return Unpaired(batch.a, degraded(self.degradation, batch.b))


class _Degraded(ImageData):
    """Images with a degradation. Training draws anew at each step, after the augmentation; evaluation by row."""

    batch: ClassVar[type]
    pairs_known = True

    def __init__(
        self,
        *common: Any,  # see ImageData
        degradation: Degradation,
        **named: Any,
    ):
        super().__init__(*common, **named)
        self.degradation = degradation
        self.augment = DegradeAfter(degradation, self.augment)
        self.keys["degradation"] = repr(degradation)  # the content depends on it

    def images(self, split: str) -> ImageTable:
        """The images of a split as they are."""
        table = super().table(split)
        assert isinstance(table, ImageTable)
        return table


class DegradedData(_Degraded):
    """Pairs: b is an image, a the same image degraded, in the same size."""

    batch = Paired

    def table(self, split: str) -> DegradedTable:
        return DegradedTable(self.images(split), self.degradation, self.split_seed)

    def training(self) -> ImageTable:
        return self.images("train")


class DegradedDomainData(_Degraded):
    """Two domains without pairs: one half of the training images, and the other half degraded.

    val and test are pairs: every image, as it is in a, and degraded in b.
    """

    batch = Unpaired

    def table(self, split: str) -> DegradedDomainTable:  # type: ignore[override]
        images = self.images(split)
        return DegradedDomainTable(images, *self.domains(split, images.rows), self.degradation, self.split_seed)

    def training(self) -> UnpairedTable:  # type: ignore[override]
        images = self.images("train")
        return UnpairedTable(images.images, images.images, *self.domains("train", images.rows), images.device)

    def domains(self, split: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of a and of b."""
        if split != "train":
            return rows, rows
        if len(rows) < 2:
            raise UserError(f"data={self.source.name}: {len(rows)} training image(s) do not make two domains")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(mix(self.split_seed, 5)))
        half = len(rows) // 2
        return rows[order[:half].sort().values], rows[order[half:].sort().values]
