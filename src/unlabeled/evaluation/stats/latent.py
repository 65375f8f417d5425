"""Interpolations, traversals and directions in the space of codes."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def lerp(a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    """Straight from a to b (P, D) at `steps` (T,) of the way: (P, T, D)."""
    t = steps[:, None]
    return (1 - t) * a[:, None] + t * b[:, None]


def slerp(a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    """Along the great circle: (P, T, D). Shoemake 1985, as White 2016, https://arxiv.org/abs/1609.04468, has it.

    sin((1 - t) theta) / sin(theta) a + sin(t theta) / sin(theta) b, theta the angle between a and b. Between codes
    of equal length all are of that length, as draws from a Gaussian of many dimensions nearly are; the middle of a
    straight line is shorter than any draw. Codes on one line through the origin have no such circle: straight.
    """
    cosine = (normalize(a.double(), dim=-1) * normalize(b.double(), dim=-1)).sum(-1).clamp(-1, 1)[:, None, None]
    theta, t = cosine.arccos(), steps.double()[:, None]
    sine = theta.sin()
    arc = (((1 - t) * theta).sin() * a[:, None] + (t * theta).sin() * b[:, None]) / sine
    return torch.where(sine < 1e-4, lerp(a.double(), b.double(), steps.double()), arc).to(a.dtype)


def is_gaussian(draws: Tensor) -> bool:
    """Whether every dimension of draws (N, D) that varies looks normal: skewness and excess kurtosis near 0.

    For N = 4,096 their standard errors are 0.04 and 0.08; a uniform prior's excess kurtosis is -1.2.
    """
    z = draws.double() - draws.double().mean(0)
    spread = z.square().mean(0).sqrt()
    z = z[:, spread > 1e-6] / spread[spread > 1e-6]
    if not z.numel():
        return False
    return bool(z.pow(3).mean(0).abs().max() < 0.4 and (z.pow(4).mean(0) - 3).abs().max() < 0.8)


def traversals(
    z: Tensor,  # (D,): the code that all others equal but for one dimension
    dimensions: Tensor,  # (K,) which are moved, each alone
    values: Tensor,  # (K, T): what they are set to
) -> Tensor:
    """(K, T, D). Higgins et al. 2017, figure 1, https://openreview.net/forum?id=Sy2fzU9gl"""
    codes = z.expand(*values.shape, -1).clone()
    for k, dimension in enumerate(dimensions.tolist()):
        codes[k, :, dimension] = values[k]
    return codes


def direction(h: Tensor, has: Tensor) -> Tensor:
    """Mean of the codes h (N, D) that have it minus the mean of those that have not; has (N,) of 1, 0; -1 unknown."""
    return h[has == 1].mean(0) - h[has == 0].mean(0)


def separation(h: Tensor, has: Tensor) -> float:
    """How far apart the two are along their direction, in standard deviations within them."""
    way = direction(h, has)
    along = h @ way
    within = (along[has == 1].var(correction=0) + along[has == 0].var(correction=0)) / 2
    return float((along[has == 1].mean() - along[has == 0].mean()) / within.clamp(min=1e-12).sqrt())
