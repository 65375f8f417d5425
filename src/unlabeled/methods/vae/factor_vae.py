"""FactorVAE.

Kim & Mnih 2018, https://arxiv.org/abs/1802.05983, algorithm 2. A batch is two halves. On one the VAE minimises

    -ELBO + gamma E [log D(z) - log(1 - D(z))],  z ~ q(z|x)

whose last term estimates the total correlation KL(q(z) || prod_d q(z_d)) by the density ratio (equation 3). The
discriminator D then learns to distinguish these z from codes of the other half, each dimension of which is permuted
separately across the batch (algorithm 1): draws of prod_d q(z_d).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.method import Adversarial
from unlabeled.methods.vae.vae import VAE


def permute_dimensions(z: Tensor) -> Tensor:
    """Each column of z (B, Z) in a random order of its own. Algorithm 1."""
    order = torch.rand_like(z).argsort(0)
    return z.gather(0, order)


class FactorVAE(VAE, Adversarial):
    monitor = VAE.monitor

    def __init__(
        self,
        discriminator: nn.Module,  # z (B, Z) -> logit (B,) of z being a draw of q(z)
        gamma: float,
        discriminator_optimizer: Callable[..., Optimizer],
        **named: Any,  # of VAE
    ):
        super().__init__(**named)
        if gamma < 0:
            raise UserError(f"model.gamma={gamma}: it must not be negative")
        self.discriminator = discriminator
        self.gamma = gamma
        self.discriminator_optimizer = discriminator_optimizer

    def training_step(self, batch: Images, batch_idx: int) -> None:
        if len(batch.x) < 2:
            raise UserError("model=factor_vae splits its batches in two halves: data.batch_size=2 or more")
        vae, discriminator = self.players()
        with torch.no_grad():  # q as it is before either moves
            z, z_other = self.sample_posterior(batch.x).tensor_split(2)
        self.update(vae, self.vae_loss, batch.x[: len(z)])
        self.update(discriminator, self.discriminator_loss, z, permute_dimensions(z_other))

    def vae_loss(self, x: Tensor) -> Tensor:
        log_px_z, kl, drawn = self.terms(x)
        correlation = self.discriminator(drawn.z).float().mean()  # the logit of D is log D - log(1 - D)
        self.log_elbo(log_px_z, kl)
        self.record(total_correlation=correlation)
        return self.kl(kl, self.progress) + self.gamma * correlation - log_px_z.mean()

    def discriminator_loss(self, z: Tensor, permuted: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over the two kinds."""
        logit, logit_permuted = self.discriminator(z).float(), self.discriminator(permuted).float()
        loss = (softplus(-logit).mean() + softplus(logit_permuted).mean()) / 2
        right = ((logit > 0).float().mean() + (logit_permuted < 0).float().mean()) / 2
        self.record(discriminator_loss=loss, discriminator_accuracy=right)
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        own = set(self.discriminator.parameters())
        return [
            self.optimizer(p for p in self.parameters() if p.requires_grad and p not in own),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]
