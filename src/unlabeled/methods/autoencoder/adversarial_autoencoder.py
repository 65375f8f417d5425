"""Adversarial autoencoder.

Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, section 2 and figure 1, the deterministic form of section 2.1.
With f the encoder, g the decoder, D the discriminator of codes and p(z) any prior that can be sampled, on each batch

    reconstruction phase   f, g minimise  L(x, g(f(x)))
    regularisation phase   D learns to distinguish z ~ p(z) from f(x); then f, as a generator, deceives it

f has an optimizer for each role, as Adam's statistics of the two losses' gradients differ.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.distributions.prior import FixedPrior
from unlabeled.errors import UserError
from unlabeled.losses.adversarial import Objective
from unlabeled.losses.distance import Distance
from unlabeled.methods.method import Adversarial


class AdversarialAutoencoder(Adversarial):
    def __init__(
        self,
        encoder: nn.Module,  # f: x (B, C, H, W) -> code (B, Z)
        decoder: nn.Module,  # g: code (B, Z) -> output (B, C, H, W) for the distance
        discriminator: nn.Module,  # D: code (B, Z) -> score (B,)
        distance: Distance,  # L
        prior: FixedPrior,  # p(z)
        objective: Objective,
        latent_dim: int,  # Z
        autoencoder_optimizer: Callable[..., Optimizer],
        discriminator_optimizer: Callable[..., Optimizer],
        generator_optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rates
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.discriminator = discriminator
        self.distance = distance
        self.prior = prior
        self.objective = objective
        self.latent_dim = latent_dim
        self.autoencoder_optimizer = autoencoder_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.generator_optimizer = generator_optimizer
        self.schedule = schedule

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).float()

    def decode(self, z: Tensor) -> Tensor:
        return self.distance.image(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample_prior(self, n: int) -> Tensor:
        return self.prior.sample(n)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def on_fit_start(self) -> None:
        if self.accumulate > 1:
            raise UserError(
                f"accumulate={self.accumulate}: the phases of an adversarial autoencoder share the encoder's "
                "gradients; say a larger data.batch_size instead"
            )

    def training_step(self, batch: Images, batch_idx: int) -> None:
        autoencoder, discriminator, generator = self.players()
        self.update(autoencoder, self.reconstruction_loss, batch.x)
        self.update(discriminator, self.discriminator_loss, batch.x, batch.y)
        self.update(generator, self.generator_loss, batch.x, batch.y)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.reconstruction_loss(batch.x)

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """L, mean over the batch; pixels are summed."""
        error = self.distance(self.decoder(self.encode(x)).float(), x).mean()
        self.record(reconstruction_loss=error)
        return error

    def prior_codes(self, y: Tensor) -> Tensor:
        """Codes (B, Z) from the prior of images of classes y (B,): here the same of every class."""
        return self.sample_prior(len(y))

    def score_codes(self, z: Tensor, y: Tensor) -> Tensor:
        """The discriminator's scores (B,) of codes (B, Z) of images of classes y (B,)."""
        return self.discriminator(z).float()

    def discriminator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.encode(x)
        score_prior, score_code = self.score_codes(self.prior_codes(y), y), self.score_codes(z, y)
        loss = self.objective.discriminator(score_prior, score_code)
        self.record(discriminator_loss=loss, score_prior=score_prior.mean(), score_code=score_code.mean())
        return loss

    def generator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        loss = self.objective.generator(self.score_codes(self.encode(x), y))
        self.record(generator_loss=loss)
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.autoencoder_optimizer([*self.encoder.parameters(), *self.decoder.parameters()]),
            self.discriminator_optimizer(self.discriminator.parameters()),
            self.generator_optimizer(self.encoder.parameters()),
        ]
