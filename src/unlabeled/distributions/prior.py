"""Priors p(z) over codes z (..., Z). Each may depend on q(z|x) through `infer` (distributions.posterior)."""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from unlabeled.distributions.gaussian import kl_to_standard_normal_terms, log_normal
from unlabeled.distributions.posterior import Drawn, Infer, log_mean_exp
from unlabeled.errors import UserError


class Prior(Protocol):
    def log_prob(self, z: Tensor, infer: Infer) -> Tensor:
        """log p(z) in nats, (..., Z) -> (...)."""

    def kl(self, drawn: Drawn, infer: Infer) -> Tensor:
        """KL(q(z|x) || p(z)) in nats: of each dimension (B, Z), or (B, 1) where only the sum is known."""

    def sample(self, n: int, infer: Infer) -> Tensor:
        """n codes (n, Z)."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


class FixedPrior(Protocol):
    """A prior that does not depend on q(z|x)."""

    def sample(self, n: int) -> Tensor:
        """n codes (n, Z)."""


class StandardNormal(nn.Module):
    """N(0, I)."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim), persistent=False)
        self.centre: Tensor

    def log_prob(self, z: Tensor, infer: Infer | None = None) -> Tensor:
        """log p(z) in nats, (..., Z) -> (...)."""
        zero = torch.zeros_like(z)
        return log_normal(z, zero, zero)

    def kl(self, drawn: Drawn, infer: Infer | None = None) -> Tensor:
        """KL(q(z|x) || p(z)) in nats: of each dimension (B, Z) in closed form, else of the draw (B, 1)."""
        if drawn.gaussian is not None:
            return kl_to_standard_normal_terms(*drawn.gaussian)
        return (drawn.log_q - self.log_prob(drawn.z, infer))[:, None]

    def sample(self, n: int, infer: Infer | None = None) -> Tensor:
        """n codes (n, Z)."""
        return torch.randn(n, len(self.centre), device=self.centre.device)


class VampPrior(nn.Module):
    """The mean of the posteriors of K learned pseudo-inputs. Tomczak & Welling 2018, https://arxiv.org/abs/1705.07120.

    p(z) = 1/K sum_k q(z | u_k) (equation 9). The pseudo-inputs u_k are images in [-1, 1], as tanh keeps them; they
    start almost constant, about as bright as data. Paper's code: a hard tanh, which gives saturated pixels no gradient.
    """

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W)
        components: int = 500,  # K; the paper's for MNIST
        mean: float = -0.9,  # of the first pseudo-inputs' pixels, and how they spread: the paper's code for MNIST
        spread: float = 0.02,
    ):
        super().__init__()
        if components < 1 or not -1 < mean < 1 or spread <= 0:
            raise UserError(
                f"prior=vamp: components={components}: 1 or more, mean={mean}: in (-1, 1), spread={spread}: above 0"
            )
        start = math.atanh(mean) + torch.randn(components, *shape) * spread / (1 - mean**2)  # tanh's slope there
        self.pseudo_inputs = nn.Parameter(start)

    def images(self) -> Tensor:
        """The pseudo-inputs (K, C, H, W) in [-1, 1]."""
        return self.pseudo_inputs.tanh()

    def mixture(self, infer: Infer) -> tuple[Tensor, Tensor]:
        """mu, log_var of the K components, each (K, Z)."""
        return infer(self.images())

    def log_prob(self, z: Tensor, infer: Infer) -> Tensor:
        """log p(z) in nats, (..., Z) -> (...)."""
        mu, log_var = self.mixture(infer)
        return log_mean_exp(log_normal(z[..., None, :], mu, log_var), -1)

    def kl(self, drawn: Drawn, infer: Infer) -> Tensor:
        """log q(z|x) - log p(z) of the draw, (B, 1), in nats."""
        return (drawn.log_q - self.log_prob(drawn.z, infer))[:, None]

    def sample(self, n: int, infer: Infer) -> Tensor:
        """n codes (n, Z)."""
        mu, log_var = self.mixture(infer)
        k = torch.randint(len(mu), (n,), device=mu.device)
        return mu[k] + (log_var[k] / 2).exp() * torch.randn(n, mu.shape[1], device=mu.device)


class Modes(nn.Module):
    """A mixture of K Gaussians, evenly on a circle in the first two dimensions and elongated along its radius.

    Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, figure 3: ten of two dimensions. Further dimensions are
    N(0, 1) in every mode.
    """

    centres: Tensor  # (K, Z)
    factors: Tensor  # (K, Z, Z), of the covariances: z = centre + factor e, e ~ N(0, I)

    def __init__(
        self,
        dim: int,  # Z
        modes: int | None,  # K
        radius: float = 1.4,
        along: float = 0.5,  # standard deviation from the circle's middle outwards
        across: float = 0.1,  # and at a right angle to that
    ):
        super().__init__()
        if not modes:
            raise UserError("prior=modes: this data has no classes to have a mode each: say model.prior.modes=N")
        if dim < 2 or min(radius, along, across) <= 0:
            raise UserError(
                f"prior=modes: latent_dim={dim}, radius={radius}, along={along}, across={across}: at least 2 "
                "dimensions, and the others above 0"
            )
        turns = 2 * math.pi * torch.arange(modes) / modes
        outwards = torch.stack([turns.cos(), turns.sin()], 1)  # (K, 2)
        sideways = torch.stack([-turns.sin(), turns.cos()], 1)
        centres = torch.cat([radius * outwards, torch.zeros(modes, dim - 2)], 1)
        factors = torch.eye(dim).repeat(modes, 1, 1)
        factors[:, :2, 0], factors[:, :2, 1] = along * outwards, across * sideways
        spread = torch.tensor([along, across])
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("whitening", torch.linalg.inv(factors), persistent=False)
        self.register_buffer("log_spread", spread.log().sum(), persistent=False)
        self.whitening: Tensor
        self.log_spread: Tensor

    def log_prob(self, z: Tensor, infer: Infer | None = None) -> Tensor:
        """log p(z) in nats, (..., Z) -> (...)."""
        noise = torch.einsum("kij,...kj->...ki", self.whitening, z[..., None, :] - self.centres)  # (..., K, Z)
        zero = torch.zeros_like(noise)
        return log_mean_exp(log_normal(noise, zero, zero) - self.log_spread, -1)

    def kl(self, drawn: Drawn, infer: Infer | None = None) -> Tensor:
        """log q(z|x) - log p(z) of the draw, (B, 1), in nats."""
        return (drawn.log_q - self.log_prob(drawn.z))[:, None]

    def draw(self, mode: Tensor) -> Tensor:
        """A code (n, Z) from each of the modes (n,); where -1, from any."""
        mode = torch.where(mode < 0, torch.randint_like(mode, len(self.centres)), mode)
        noise = torch.randn(len(mode), self.centres.shape[1], device=self.centres.device)
        return self.centres[mode] + (self.factors[mode] @ noise[:, :, None])[:, :, 0]

    def sample(self, n: int, infer: Infer | None = None) -> Tensor:
        """n codes (n, Z)."""
        return self.draw(torch.full((n,), -1, device=self.centres.device))
