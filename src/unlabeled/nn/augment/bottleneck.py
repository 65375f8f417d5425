"""Bottlenecks between encoder and decoder, codes (B, D) -> (B, D). Without noise in evaluation."""

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError


class KSparse(nn.Module):
    """The k largest values of each code are kept, all others become 0; in evaluation alpha k are kept.

    Makhzani & Frey 2014, https://arxiv.org/abs/1312.5663, algorithm 1.
    """

    def __init__(self, k: int = 25, alpha: float = 2.0):
        super().__init__()
        if k < 1 or alpha < 1:
            raise UserError(f"bottleneck=k_sparse: k={k}, alpha={alpha}: both must be 1 or more")
        self.k, self.alpha = k, alpha

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        k = self.k if self.training else round(self.alpha * self.k)
        largest = z.topk(min(k, z.shape[1]), dim=1, sorted=False)
        return torch.zeros_like(z).scatter(1, largest.indices, largest.values)


class GaussianNoise(nn.Module):
    """z + sigma e, e ~ N(0, I), in training."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if scale < 0:
            raise UserError(f"bottleneck=gaussian_noise: scale={scale} must not be negative")
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return z + self.scale * torch.randn_like(z) if self.training else z
