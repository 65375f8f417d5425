"""Losses over two batches of projections za, zb (B, D): row i of both comes from the same image."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.functional import cross_entropy, normalize

from unlabeled.errors import require_several


class Gather(torch.autograd.Function):
    """z (B, D) of every rank -> (world * B, D) on each, with gradients back to where each row came from."""

    @staticmethod
    def forward(context: Any, z: Tensor) -> Tensor:
        parts = [torch.empty_like(z) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)  # of all ranks' losses
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]


class NTXent:
    """Normalised temperature-scaled cross-entropy in nats, mean over the 2B views.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1:

        l(i, j) = -log exp(sim(z_i, z_j) / T) / sum_{k != i} exp(sim(z_i, z_k) / T),  sim = cosine

    Over several ranks that train, the negatives are the views of all of them (as in the authors' code):
    the mean over ranks is the loss of the joined batch, and so are its gradients once DDP has averaged them;
    every rank must bring as many rows. Without gradients (validation, where ranks may have unequal batches)
    they are the rank's own.
    """

    def __init__(self, temperature: float = 0.5):
        self.temperature = temperature

    def __call__(self, za: Tensor, zb: Tensor) -> Tensor:
        # In float32 also under autocast: a bfloat16 cosine near 1 has steps of 0.004, which T divides.
        with torch.autocast(za.device.type, enabled=False):
            za, zb = normalize(za.float(), dim=1), normalize(zb.float(), dim=1)
            all_a, all_b, first = za, zb, 0
            if distributed.is_available() and distributed.is_initialized() and za.requires_grad:
                all_a, all_b, first = Gather.apply(za), Gather.apply(zb), distributed.get_rank() * len(za)
            require_several(all_a, "a contrastive loss")
            logits = torch.cat([za, zb]) @ torch.cat([all_a, all_b]).T / self.temperature  # (2B, 2 world B)
            row = torch.arange(len(za), device=za.device) + first  # index of view a of image i among all
            itself = torch.cat([row, row + len(all_a)])
            partner = torch.cat([row + len(all_a), row])
            logits = logits.scatter(1, itself[:, None], float("-inf"))  # k != i
            return cross_entropy(logits, partner)
