"""Ladder variational autoencoder: several layers of codes, inferred bottom-up and top-down.

Sønderby et al. 2016, https://arxiv.org/abs/1602.02282. With p(z) = p(z_L) prod_i p(z_i|z_(i+1)), p(x|z) = p(x|z_1) and
variances v:

    upwards    d_1 = encoder(x), d_(i+1) = rung(d_i); each gives mu^_i, v^_i                    (equations 8 to 10)
    downwards  z_L ~ N(mu^_L, v^_L); then for i = L-1, ..., 1, with mu_p, v_p of p(z_i|z_(i+1)):
               q(z_i|z_(i+1), x) = N(v_q (mu^_i / v^_i + mu_p / v_p), v_q),  1 / v_q = 1 / v^_i + 1 / v_p  (11 to 13)
    ELBO = log p(x|z_1) - sum_i KL(q(z_i|z_(i+1), x) || p(z_i|z_(i+1)))

The KL is warmed up from 0 (section 2.3): see conf/model/ladder_vae.yaml. A code is the concatenation of all layers, the
lowest first; `decode` reads z_1, which is all that p(x|z) depends on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unlabeled.distributions.gaussian import kl_between_terms, log_normal
from unlabeled.distributions.posterior import DiagonalGaussian, Drawn
from unlabeled.errors import UserError
from unlabeled.methods.vae.vae import VAE
from unlabeled.nn.autoencoders.ladder import Ladder


class Layer(NamedTuple):
    z: Tensor  # (..., B, Z_i), drawn from q
    q: tuple[Tensor, Tensor]  # mu, log_var of q(z_i|z_(i+1), x)
    p: tuple[Tensor, Tensor]  # mu, log_var of p(z_i|z_(i+1))


class LadderVAE(VAE):
    posterior: DiagonalGaussian

    def __init__(
        self,
        ladder: Ladder,  # between the encoder, x -> d_1 (B, features), and the decoder, z_1 (B, Z_1) -> output
        **named: Any,  # of VAE; `prior` and `latent_dim` are those of the top layer
    ):
        super().__init__(posterior=DiagonalGaussian(), **named)
        if ladder.dims[-1] != self.latent_dim:
            raise UserError(
                f"model.ladder.dims={list(ladder.dims)} ends at the top: say model.latent_dim={ladder.dims[-1]}"
            )
        self.ladder = ladder

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_var (B, Z_L) of q(z_L|x)."""
        return self.posterior.read(self.ladder.up(self.encoder(x))[-1])

    def encode(self, x: Tensor) -> Tensor:
        """Each layer's mean, given the mean of the one above."""
        numbers = self.ladder.up(self.encoder(x))
        top = self.posterior.mean(numbers[-1])
        return concatenated(top, self.below(numbers, top, torch.zeros_like))

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z[:, : self.ladder.dims[0]])

    def sample_prior(self, n: int) -> Tensor:
        z = [self.prior.sample(n, self.infer)]
        for i in reversed(range(len(self.ladder.dims) - 1)):
            mu, log_var = self.conditional(i, z[-1])
            z.append(mu + (log_var / 2).exp() * torch.randn_like(mu))
        return torch.cat(z[::-1], 1)

    def sample_posterior(self, x: Tensor) -> Tensor:
        numbers = self.ladder.up(self.encoder(self.observe(x)))
        top = self.posterior.draw(numbers[-1]).z
        return concatenated(top, self.below(numbers, top))

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(x, z_1, ..., z_L) - log q(z_1, ..., z_L|x) for k draws, (k, B), in nats."""
        x = self.observe(x)
        numbers = self.ladder.up(self.encoder(x))
        top = self.posterior.draw(numbers[-1], k)
        layers = self.below(numbers, top.z)
        output = self.decoder(layers[-1].z.flatten(0, 1)).float().unflatten(0, top.z.shape[:2])
        log_w = self.likelihood.log_prob(output, x) + self.prior.log_prob(top.z, self.infer) - top.log_q
        for z, q, p in layers:
            log_w = log_w + log_normal(z, *p) - log_normal(z, *q)
        return log_w

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor, Drawn]:
        """log p(x|z_1) (B,), the KL of each layer's dimensions (B, sum of Z_i), the top first; and the top's draw."""
        x = self.observe(x)
        numbers = self.ladder.up(self.encoder(x))
        top = self.posterior.draw(numbers[-1])
        layers = self.below(numbers, top.z)
        kl = [self.prior.kl(top, self.infer), *(kl_between_terms(*layer.q, *layer.p) for layer in layers)]
        return self.likelihood.log_prob(self.decoder(layers[-1].z).float(), x), torch.cat(kl, 1), top

    def below(
        self,
        numbers: list[Tensor],  # (B, 2 Z_i) of each layer, the lowest first
        z: Tensor,  # (..., B, Z_L) of the top
        noise: Callable[[Tensor], Tensor] = torch.randn_like,
    ) -> list[Layer]:
        """The layers under the top, the highest first."""
        layers: list[Layer] = []
        for i in reversed(range(len(numbers) - 1)):
            p = self.conditional(i, z)
            mu, log_var = combined(self.posterior.read(numbers[i]), p)
            z = mu + (log_var / 2).exp() * noise(mu)
            layers.append(Layer(z, (mu, log_var), p))
        return layers

    def conditional(self, layer: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_var (..., Z_i) of p(z_i|z_(i+1)) for codes z (..., Z_(i+1)) of the layer above."""
        numbers = self.ladder.down(layer, z.flatten(0, -2))
        return self.posterior.read(numbers.unflatten(0, z.shape[:-1]))


def combined(own: tuple[Tensor, Tensor], prior: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """mu and log_var of the product of two Gaussians: means weighted by precision. Equations 12 and 13."""
    (mu, log_var), (mu_p, log_var_p) = own, prior
    share = torch.sigmoid(log_var_p - log_var)  # 1 / v^ over 1 / v^ + 1 / v_p
    return share * mu + (1 - share) * mu_p, -torch.logaddexp(-log_var, -log_var_p)


def concatenated(top: Tensor, layers: list[Layer]) -> Tensor:
    """The codes of all layers (B, sum of Z_i), the lowest first."""
    return torch.cat([*(layer.z for layer in reversed(layers)), top], 1)
