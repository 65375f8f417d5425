"""Denoising autoencoder.

Vincent, Larochelle, Bengio & Manzagol 2008, https://doi.org/10.1145/1390156.1390294, section 2.3; with other
corruptions Vincent et al. 2010, https://jmlr.org/papers/v11/vincent10a.html, section 3:

    min over f, g of  E L(x, g(f(x~))),  x~ ~ C(x~ | x)

C (nn.augment.corruption) is applied to inputs, not to targets, in validation too. `encode` takes clean images.
Paper: decoder and encoder share their weights, transposed; here each has its own.
"""

from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.batches import Images
from unlabeled.methods.autoencoder.autoencoder import Autoencoder


class DenoisingAutoencoder(Autoencoder):
    def __init__(
        self,
        corruption: nn.Module,  # C: x (B, C, H, W) -> x~ of the same shape
        **named: Any,  # of Autoencoder
    ):
        super().__init__(**named)
        self.corruption = corruption

    def figures(self, x: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
        """Rows of images, of corrupted images, and of their reconstructions."""
        corrupted = self.corruption(x[:16])
        rows = [x[:16], corrupted.clamp(-1, 1), self.reconstruct(corrupted)]
        bands = [row[start : start + 8] for start in range(0, len(rows[0]), 8) for row in rows]
        names = ["image", "corrupted", "denoised"] * (len(bands) // 3)
        captions = [name for name, band in zip(names, bands, strict=True) for _ in band]
        return super().figures(x) | {"denoised": (torch.cat(bands), captions)}

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.loss(self.corruption(batch.x), batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(self.corruption(batch.x), batch.x)
