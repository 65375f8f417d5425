"""Pool of earlier generated images, for the discriminator's training.

Shrivastava et al. 2017, https://arxiv.org/abs/1612.07828, section 2.3; the rule is that of the released
code of CycleGAN, Zhu et al. 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """While there is room, an image is stored and returned. Then, with probability 1/2, it replaces a random
    stored one, which is returned; otherwise it is returned and not stored. A pool of size 0 returns its input.

    Everything is a buffer, so that a checkpoint holds the pool. Nothing waits for the device.
    """

    images: Tensor  # (size, C, H, W)
    count: Tensor  # (1,) how many are stored

    def __init__(self, size: int, shape: Sequence[int]):
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def forward(self, fakes: Tensor) -> Tensor:
        """Images (B, C, H, W) -> as many, new and old. No gradient flows."""
        if not len(self.images):
            return fakes.detach()
        given = []
        # One after the other, because an image may replace one that the same batch has stored.
        for fake in fakes.detach().to(self.images.dtype).split(1):
            full = self.count == len(self.images)
            slot = torch.where(full, torch.randint(len(self.images), (1,), device=fake.device), self.count)
            swap = full & (torch.rand(1, device=fake.device) < 0.5)
            old = self.images.index_select(0, slot)
            given.append(torch.where(swap, old, fake))
            self.images.index_copy_(0, slot, torch.where(swap | ~full, fake, old))
            self.count += ~full
        return torch.cat(given)
