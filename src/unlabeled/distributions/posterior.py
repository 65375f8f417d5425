"""Posteriors q(z|x), with parameters h (B, num_params * Z) from an encoder."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from unlabeled.distributions.gaussian import log_normal
from unlabeled.errors import UserError


class Drawn(NamedTuple):
    """Codes drawn from q(z|x), with their density."""

    z: Tensor  # (B, Z), or (k, B, Z) of k draws an image
    log_q: Tensor  # log q(z|x) in nats, (B,) or (k, B)
    gaussian: tuple[Tensor, Tensor] | None  # mu, log_var (B, Z) where q is that Gaussian


class Posterior(Protocol):
    def read(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_var, each (B, Z), of q(z|x), or of the Gaussian that its flow starts from."""

    def mean(self, h: Tensor) -> Tensor:
        """A code (B, Z) without noise."""

    def draw(self, h: Tensor, *k: int) -> Drawn:
        """One code an image, or `k`."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


class DiagonalGaussian(nn.Module):
    """N(mu, diag sigma^2), h = (mu, log sigma^2). Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, section 3."""

    reads = 2  # parameters of each dimension

    def __init__(self, num_params: int = 2):
        super().__init__()
        if num_params != self.reads:
            raise UserError(
                f"model.posterior.num_params={num_params}: {type(self).__name__} reads {self.reads}; set it to that"
            )

    def read(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_var, each (B, Z)."""
        mu, log_var, *_ = h.float().chunk(self.reads, dim=-1)
        return mu, log_var.clamp(-12, 12)  # exp stays finite in float32

    def mean(self, h: Tensor) -> Tensor:
        return self.read(h)[0]

    def draw(self, h: Tensor, *k: int) -> Drawn:
        """One code an image, or `k`."""
        mu, log_var = self.read(h)
        z = mu + (log_var / 2).exp() * torch.randn(*k, *mu.shape, device=mu.device)
        return Drawn(z, log_normal(z, mu, log_var), (mu, log_var))


class Flow(DiagonalGaussian):
    """A Gaussian's draw moved by an invertible flow: log q(z|x) = log N(z_0) - log |det dz / dz_0|.

    Rezende & Mohamed 2015, https://arxiv.org/abs/1505.05770, equation 13.
    """

    reads = 3  # mu, log_var, and the context of the flow

    def __init__(
        self,
        flow: nn.Module,  # z_0 (N, Z), context (N, Z) -> z (N, Z), log |det| (N,)
        num_params: int = 3,
    ):
        super().__init__(num_params)
        self.flow = flow

    def context(self, h: Tensor) -> Tensor:
        """The flow's context, (B, Z)."""
        return h.float().chunk(self.reads, dim=-1)[2]

    def mean(self, h: Tensor) -> Tensor:
        """The Gaussian's mean moved by the flow."""
        return self.flow(self.read(h)[0], self.context(h))[0]

    def draw(self, h: Tensor, *k: int) -> Drawn:
        start = super().draw(h, *k)
        context = self.context(h).expand_as(start.z)
        z, log_det = self.flow(start.z.flatten(0, -2), context.flatten(0, -2))
        return Drawn(z.unflatten(0, start.z.shape[:-1]), start.log_q - log_det.unflatten(0, start.log_q.shape), None)


Infer = Callable[[Tensor], tuple[Tensor, Tensor]]  # x (B, C, H, W) -> mu, log_var (B, Z) of q(z|x)


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """log of the mean of exp."""
    return values.logsumexp(dim) - math.log(values.shape[dim])
