"""Self-attention over the positions of a feature map.

Zhang et al. 2019, https://arxiv.org/abs/1805.08318, section 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def plain(layer: nn.Module) -> nn.Module:
    """The layer itself."""
    return layer


class SelfAttention(nn.Module):
    """x (B, C, H, W) -> gamma o + x, the same shape; gamma starts at 0, the identity.

    Equations 1 to 3: beta_ji = softmax over i of f(x_i)^T g(x_j); o_j = v(sum over i of beta_ji h(x_i)), with f, g, h
    1x1 convolutions to C / 8 channels and v one back to C.
    """

    def __init__(self, channels: int, wrap: Callable[[nn.Module], nn.Module] = plain, reduction: int = 8):
        super().__init__()
        inner = max(1, channels // reduction)
        self.f, self.g, self.h = (wrap(nn.Conv2d(channels, inner, 1, bias=False)) for _ in range(3))
        self.v = wrap(nn.Conv2d(inner, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(1))  # not a scalar, which cannot be sharded

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = (layer(x).flatten(2) for layer in (self.f, self.g, self.h))  # (B, C / 8, N), N = H W
        beta = (g.transpose(1, 2) @ f).softmax(2)  # (B, N, N): row j attends to positions i
        o = self.v((h @ beta.transpose(1, 2)).unflatten(2, x.shape[2:]))
        return self.gamma * o + x
