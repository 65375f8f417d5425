"""Priors p(z) over codes z (..., Z). Each may look at q(z|x) through `infer` (losses.posterior)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unlabeled.losses.gaussian import kl_to_standard_normal_terms, log_normal
from unlabeled.losses.posterior import Drawn, Infer, log_mean_exp


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

    p(z) = 1/K sum_k q(z | u_k) (equation 9). The pseudo-inputs u_k are images in [-1, 1], as tanh keeps them.
    """

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W)
        components: int = 500,  # K; the paper's for MNIST
    ):
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.randn(components, *shape) * 0.5 - 1)

    def mixture(self, infer: Infer) -> tuple[Tensor, Tensor]:
        """mu, log_var of the K components, each (K, Z)."""
        return infer(self.pseudo_inputs.tanh())

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
