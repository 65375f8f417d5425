"""Variational autoencoder.

Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, algorithm 1 with the estimator of equation 10:

    ELBO = log p(x|z) - KL(q(z|x) || p(z)),  z = mu + sigma epsilon,  epsilon ~ N(0, I)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.losses.gaussian import kl_to_standard_normal, log_normal
from unlabeled.methods.method import Method


class VAE(Method):
    monitor = "val/negative_elbo"

    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> mu, log_var (B, 2Z)
        decoder: nn.Module,  # z (B, Z) -> output (B, C, H, W), as the likelihood reads it
        likelihood: Any,  # losses.likelihood
        latent_dim: int,  # Z
        optimizer: Callable[..., Optimizer],
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.level_width = likelihood.level_width
        self.latent_dim = latent_dim
        self.optimizer = optimizer

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """q(z|x) as mu, log_var, each (B, Z)."""
        mu, log_var = self.encoder(x).float().chunk(2, dim=-1)
        return mu, log_var.clamp(-12, 12)  # exp stays finite in float32

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.mean(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def draw_codes(self, n: int) -> Tensor:
        return torch.randn(n, self.latent_dim, device=self.device)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.draw_codes(n))

    def log_likelihood(self, x: Tensor) -> Tensor:
        log_px_z, kl = self.elbo_terms(x)
        return log_px_z - kl

    def observe(self, x: Tensor) -> Tensor:
        return self.likelihood.observe(x)

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(x|z) + log p(z) - log q(z|x) for k draws z ~ q(z|x), (k, B), in nats. Burda et al. 2016, equation 8."""
        x = self.observe(x)
        mu, log_var = self.posterior(x)
        z = mu + (log_var / 2).exp() * torch.randn(k, *mu.shape, device=mu.device)  # (k, B, Z)
        output = self.decoder(z.flatten(0, 1)).float().unflatten(0, z.shape[:2])  # (k, B, C, H, W)
        zero = torch.zeros_like(mu)
        return self.likelihood.log_prob(output, x) + log_normal(z, zero, zero) - log_normal(z, mu, log_var)

    def elbo_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x|z) for one z ~ q(z|x), and KL(q(z|x) || p(z)), each (B,), in nats."""
        x = self.observe(x)
        mu, log_var = self.posterior(x)
        z = mu + (log_var / 2).exp() * torch.randn_like(mu)
        return self.likelihood.log_prob(self.decoder(z).float(), x), kl_to_standard_normal(mu, log_var)

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        log_px_z, kl = self.elbo_terms(batch.x)
        elbo = (log_px_z - kl).mean()
        self.record(negative_elbo=-elbo, kl=kl.mean(), reconstruction=-log_px_z.mean())
        return -elbo

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(p for p in self.parameters() if p.requires_grad)
