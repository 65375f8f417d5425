"""Weights of KL(q(z|x) || p(z)) in a training loss. The logged ELBO has none of them."""

from typing import Protocol

from torch import Tensor

from unlabeled.errors import UserError


class KL(Protocol):
    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        """KL in nats by dimension (B, D), and the share of the run -> scalar."""


class Weighted:
    """beta KL, from 0 up to it in a straight line over the share `warmup` of the run.

    beta = 1 is the ELBO. beta > 1: Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl, equation 4. Warm-up:
    Bowman et al. 2016, https://arxiv.org/abs/1511.06349, section 3.1.
    """

    def __init__(self, beta: float = 1.0, warmup: float = 0.0):
        if beta < 0 or not 0 <= warmup <= 1:
            raise UserError(f"kl: beta={beta} must not be negative, and warmup={warmup} is a share of the run, 0 to 1")
        self.beta, self.warmup = beta, warmup

    def weight(self, progress: float) -> float:
        """At a share of the run."""
        return self.beta * min(1.0, progress / self.warmup if self.warmup else 1.0)

    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        return self.weight(progress) * kl.sum(1).mean()


class FreeBits(Weighted):
    """sum_d max(nats, E_x KL_d): the first nats of each dimension cost nothing.

    Kingma et al. 2016, https://arxiv.org/abs/1606.04934, equation 15: the mean over the batch comes before the maximum.
    For posteriors and priors with only the KL's sum (flows, mixtures, VampPrior), it is the maximum of that sum.
    """

    def __init__(self, nats: float = 0.25, beta: float = 1.0, warmup: float = 0.0):
        super().__init__(beta, warmup)
        if nats < 0:
            raise UserError(f"kl.nats={nats}: 0 or more, of each dimension")
        self.nats = nats

    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        return self.weight(progress) * kl.mean(0).clamp(min=self.nats).sum()


class Capacity:
    """gamma |KL - C|, C from 0 up to `nats` over the share `until` of the run.

    Burgess et al. 2018, https://arxiv.org/abs/1804.03599, equation 8.
    """

    def __init__(self, gamma: float = 100.0, nats: float = 25.0, until: float = 0.5):
        if gamma < 0 or nats < 0 or not 0 < until <= 1:
            raise UserError(f"kl: gamma={gamma} and nats={nats} must not be negative, until={until} is a share, 0 to 1")
        self.gamma, self.nats, self.until = gamma, nats, until

    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        capacity = self.nats * min(1.0, progress / self.until)
        return self.gamma * (kl.sum(1).mean() - capacity).abs()
