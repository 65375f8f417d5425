"""Vector quantisation with a codebook of moving averages.

van den Oord, Vinyals & Kavukcuoglu 2017, https://arxiv.org/abs/1711.00937, section 3.1, learned by the moving averages
of appendix A.1. Codes that are hardly used are reset to vectors of the batch, the random restarts of Dhariwal et al.
2020, https://arxiv.org/abs/2005.00341, section 3.1.
"""

import torch
from torch import Tensor, nn
from torch.distributed import broadcast, is_available, is_initialized

from unlabeled.errors import UserError
from unlabeled.nn.layers.ranks import sum_over_ranks


class VectorQuantizer(nn.Module):
    """Map (B, D, h, w) -> the map of the nearest codes e_i, and their numbers i (B, h, w).

    After each batch of training (equations 6 to 8), with n_i the share of the batch's vectors that code i was nearest
    to and s_i their sum over the number of all vectors,

        N_i <- gamma N_i + (1 - gamma) n_i,   m_i <- gamma m_i + (1 - gamma) s_i,   e_i = m_i / N_i.

    Paper: numbers of vectors; here shares, which do not depend on the size of a batch. Sums are over
    all processes. Codes start unused, so that the first codebook is vectors of the first batch.
    """

    codebook: Tensor  # (K, D)
    use: Tensor  # (K,), N
    mean_sum: Tensor  # (K, D), m

    def __init__(
        self,
        codes: int,  # K
        dim: int,  # D
        decay: float = 0.99,  # gamma
        reset_threshold: float = 0.03,  # of the average use, 1 / K: codes with less are reset; 0: never
    ):
        super().__init__()
        if codes < 2 or not 0 <= decay < 1 or not 0 <= reset_threshold < 1:
            raise UserError(
                f"codes={codes}, decay={decay}, reset_threshold={reset_threshold}: at least 2 codes, and shares "
                "in [0, 1)"
            )
        self.decay, self.reset_threshold = decay, reset_threshold
        self.register_buffer("codebook", torch.randn(codes, dim))
        self.register_buffer("use", torch.zeros(codes))
        self.register_buffer("mean_sum", torch.zeros(codes, dim))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.float()
        vectors = z.detach().movedim(1, -1).flatten(0, -2)  # (B h w, D)
        with torch.autocast(z.device.type, enabled=False):
            index = self.nearest(vectors)
        quantized = self.look_up(index.view(len(z), *z.shape[2:]))
        if self.training:
            self.follow(vectors, index)
        return quantized, index.view(len(z), *z.shape[2:])

    def nearest(self, vectors: Tensor) -> Tensor:
        """The number of the nearest code, (N, D) -> (N,)."""
        centre = self.codebook.mean(0)  # far from 0, differences of squares would be lost to rounding
        codes = self.codebook - centre
        return (codes.square().sum(1) - 2 * (vectors - centre) @ codes.T).argmin(1)

    def look_up(self, index: Tensor) -> Tensor:
        """(B, h, w) -> (B, D, h, w)."""
        return self.codebook[index].movedim(-1, 1)

    @torch.no_grad()
    def follow(self, vectors: Tensor, index: Tensor) -> None:
        """Equations 6 to 8, and the resets."""
        count = torch.bincount(index, minlength=len(self.use)).to(vectors.dtype)
        total = torch.zeros_like(self.mean_sum).index_add_(0, index, vectors)
        stand_ins = vectors[torch.randint(len(vectors), (len(self.use),), device=vectors.device)]
        count, total = sum_over_ranks(count), sum_over_ranks(total)
        if is_available() and is_initialized():
            broadcast(stand_ins, 0)
        share = 1 / count.sum()
        self.use.lerp_(count * share, 1 - self.decay)
        self.mean_sum.lerp_(total * share, 1 - self.decay)
        self.reset(stand_ins)
        self.codebook.copy_(self.mean_sum / self.use.clamp(min=1e-12)[:, None])

    def reset(self, stand_ins: Tensor) -> None:
        """Set codes of too little use to `stand_ins` (K, D), with the average use."""
        average = 1 / len(self.use)
        idle = self.use <= self.reset_threshold * average
        self.use.copy_(torch.where(idle, average, self.use))
        self.mean_sum.copy_(torch.where(idle[:, None], stand_ins * average, self.mean_sum))


def perplexity(index: Tensor, codes: int) -> Tensor:
    """exp of the entropy of how often each code is used: 1 to K, of numbers of any shape."""
    share = torch.bincount(index.flatten(), minlength=codes) / index.numel()
    return torch.special.entr(share).sum().exp()
