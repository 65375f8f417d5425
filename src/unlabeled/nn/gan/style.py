"""The mapping network of StyleGAN, style mixing, and truncation.

Karras et al. 2019, https://arxiv.org/abs/1812.04948, sections 2 and 3.1 and appendix B.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.nn.layers.equalized import EqualizedLinear, Leaky, PixelNorm


class Mapping(nn.Module):
    """z (B, latent_dim) -> w (B, dim), and the running mean of w, towards which it is truncated.

    z is scaled to the sphere first. Its layers have `rate` times the generator's learning rate (appendix C). In
    float32.
    """

    average: Tensor

    def __init__(self, latent_dim: int, dim: int, layers: int = 8, rate: float = 0.01, decay: float = 0.995):
        super().__init__()
        if layers < 1:
            raise UserError(f"model.mapping.layers={layers}: at least 1")
        self.dim, self.decay = dim, decay
        widths = [latent_dim] + [dim] * layers
        parts = [[EqualizedLinear(a, b, rate=rate), Leaky()] for a, b in pairwise(widths)]
        self.net = nn.Sequential(PixelNorm(), *(part for pair in parts for part in pair))
        self.register_buffer("average", torch.zeros(dim))

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return self.net(z.float())

    @torch.no_grad()
    def follow(self, w: Tensor) -> None:
        """Move the running mean towards that of w (B, dim)."""
        self.average.lerp_(w.mean(0), 1 - self.decay)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """average + psi (w - average), appendix B, in every layer: 1 leaves w (..., dim), 0 makes it the mean."""
        return w if psi == 1 else self.average.lerp(w, psi)


def mix_styles(w: Tensor, other: Tensor, layers: int, share: float) -> Tensor:
    """Styles (B, layers, W) from w (B, W); for a share of the images from some layer on of `other` (B, W).

    Style mixing, section 3.1. Each image has its own layer, from the second to the last.
    """
    n = len(w)
    start = torch.randint(1, layers, (n, 1), device=w.device)
    mixed = torch.rand(n, 1, device=w.device) < share
    own = ~mixed | (torch.arange(layers, device=w.device) < start)  # (B, layers)
    return torch.where(own[:, :, None], w[:, None], other[:, None])
