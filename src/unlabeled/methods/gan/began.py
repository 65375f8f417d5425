"""Boundary equilibrium GAN.

Berthelot, Schumm & Metz 2017, https://arxiv.org/abs/1703.10717, section 3.4:

    discriminator:  minimise L(x) - k_t L(G(z))
    generator:      minimise L(G(z))
    balance:        k_{t+1} = k_t + lambda (gamma L(x) - L(G(z))), within [0, 1]

L is the loss of an autoencoder, which is the discriminator; gamma = E L(G(z)) / E L(x) at equilibrium: lower is less
diverse. The measure of convergence M = L(x) + |gamma L(x) - L(G(z))| (equation 7) is recorded, and the checkpoint where
it is lowest is kept. One forward of the generator serves both turns; the balance takes L(x) from the discriminator's
and L(G(z)) from the generator's.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.method import Adversarial


class BEGAN(Adversarial):
    monitor = "val/convergence"

    k: Tensor
    loss_real: Tensor

    def __init__(
        self,
        generator: nn.Module,  # z (B, Z) -> x (B, C, H, W) in [-1, 1]
        discriminator: nn.Module,  # nn.gan.autoencoder_discriminator: x -> -L(x) (B,)
        latent_dim: int,  # Z
        gamma: float,  # diversity ratio
        lambda_k: float,  # step size of k
        generator_optimizer: Callable[..., Optimizer],
        discriminator_optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rates
    ):
        super().__init__()
        if not 0 <= gamma <= 1 or lambda_k < 0:
            raise UserError(
                f"model.gamma={gamma}, model.lambda_k={lambda_k}: gamma is from 0 to 1, lambda_k not negative"
            )
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim
        self.gamma = gamma
        self.lambda_k = lambda_k
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.schedule = schedule
        self.register_buffer("k", torch.zeros(()))
        self.register_buffer("loss_real", torch.zeros(()), persistent=False)  # L(x) of this batch

    def sample_prior(self, n: int) -> Tensor:
        return 2 * torch.rand(n, self.latent_dim, device=self.device) - 1

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).float()

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def training_step(self, batch: Images, batch_idx: int) -> None:
        generator, discriminator = self.players()
        fake = self.sample(len(batch.x))
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach())
        self.update(generator, self.generator_loss, fake)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = -self.discriminator(torch.cat([real, fake])).float()
        loss_real, loss_fake = (part.mean() for part in loss.split([len(real), len(fake)]))
        self.loss_real = loss_real.detach()
        return loss_real - self.k * loss_fake

    def generator_loss(self, fake: Tensor) -> Tensor:
        loss_fake = -self.discriminator(fake).float().mean()
        self.balance(*self.over_ranks(self.loss_real, loss_fake.detach()))
        return loss_fake

    def balance(self, loss_real: Tensor, loss_fake: Tensor) -> None:
        """Update k, and record the measure of convergence."""
        self.k = (self.k + self.lambda_k * (self.gamma * loss_real - loss_fake)).clamp(0, 1)
        convergence = self.convergence(loss_real, loss_fake)
        self.record(loss_real=loss_real, loss_fake=loss_fake, k=self.k, convergence=convergence)

    def convergence(self, loss_real: Tensor, loss_fake: Tensor) -> Tensor:
        return loss_real + (self.gamma * loss_real - loss_fake).abs()

    def over_ranks(self, *values: Tensor) -> list[Tensor]:
        """Means over ranks, so that all have one k."""
        return [self.trainer.strategy.reduce(value, reduce_op="mean") for value in values]

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        loss_real, loss_fake = (-self.discriminator(x).float().mean() for x in (batch.x, self.sample(len(batch.x))))
        self.record(loss_real=loss_real, loss_fake=loss_fake, convergence=self.convergence(loss_real, loss_fake))

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.generator_optimizer(self.generator.parameters()),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]
