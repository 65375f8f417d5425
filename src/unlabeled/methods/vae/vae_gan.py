"""VAE/GAN: a VAE whose decoder is a GAN's generator, with a reconstruction loss of the discriminator's features.

Larsen et al. 2016, https://arxiv.org/abs/1512.09300, algorithm 1. x~ = Dec(z), z ~ q(z|x); x_p = Dec(z_p), z_p ~ p(z):

    L_prior = KL(q(z|x) || p(z))
    L_like  = -log N(Dis_l(x); Dis_l(x~), I)                          Dis_l: a layer of the discriminator
    L_GAN   = log Dis(x) + log(1 - Dis(x~)) + log(1 - Dis(x_p))

    encoder:        minimises  L_prior + L_like
    decoder:        minimises  gamma L_like - L_GAN
    discriminator:  maximises  L_GAN

The decoder minimises -log Dis of both fakes in place of log(1 - Dis), as Goodfellow et al. 2014, section 3, advise. The
paper takes the three gradients at one point; here the players take turns, each with new draws.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.distributions.posterior import Posterior
from unlabeled.distributions.prior import Prior
from unlabeled.errors import UserError
from unlabeled.methods.method import Adversarial
from unlabeled.nn.gan.discriminators import FeatureDiscriminator


class VAEGAN(Adversarial):
    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> h (B, num_params * Z), the posterior's parameters
        generator: nn.Module,  # the decoder: z (B, Z) -> x (B, C, H, W) in [-1, 1]
        discriminator: FeatureDiscriminator,  # x -> logit (B,), by features(x) and score(features)
        posterior: Posterior,
        prior: Prior,
        gamma: float,  # weight of L_like for the decoder
        latent_dim: int,  # Z
        encoder_optimizer: Callable[..., Optimizer],
        generator_optimizer: Callable[..., Optimizer],
        discriminator_optimizer: Callable[..., Optimizer],
    ):
        super().__init__()
        if gamma < 0:
            raise UserError(f"model.gamma={gamma}: it must not be negative")
        self.encoder = encoder
        self.generator = generator
        self.discriminator = discriminator
        self.posterior = posterior
        self.prior = prior
        self.gamma = gamma
        self.latent_dim = latent_dim
        self.encoder_optimizer = encoder_optimizer
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_var (B, Z) of q(z|x), or of the Gaussian that its flow starts from."""
        return self.posterior.read(self.encoder(x))

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior.mean(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample_prior(self, n: int) -> Tensor:
        return self.prior.sample(n, self.infer)

    def sample_posterior(self, x: Tensor) -> Tensor:
        return self.posterior.draw(self.encoder(x)).z

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def training_step(self, batch: Images, batch_idx: int) -> None:
        encoder, generator, discriminator = self.players()
        self.update(encoder, self.encoder_loss, batch.x)
        self.update(generator, self.generator_loss, batch.x)
        self.update(discriminator, self.discriminator_loss, batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.record(mean_squared_error=(self.reconstruct(batch.x) - batch.x).square().mean())

    def feature_loss(self, features: Tensor, features_again: Tensor) -> Tensor:
        """L_like in nats without its constant, summed over the layer, mean over the batch."""
        return 0.5 * (features.float() - features_again.float()).square().flatten(1).sum(1).mean()

    def encoder_loss(self, x: Tensor) -> Tensor:
        drawn = self.posterior.draw(self.encoder(x))
        kl = self.prior.kl(drawn, self.infer).sum(1).mean()
        features, again = self.discriminator.features(x), self.discriminator.features(self.decode(drawn.z))
        feature_loss = self.feature_loss(features, again)
        self.record(kl=kl, feature_error=feature_loss)
        return kl + feature_loss

    def generator_loss(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.sample_posterior(x)
        # three passes, so that batch norm has one kind of images at a time
        features, again, drawn = (
            self.discriminator.features(image) for image in (x, self.decode(z), self.sample(len(x)))
        )
        loss = (
            softplus(-self.discriminator.score(again).float()).mean()
            + softplus(-self.discriminator.score(drawn).float()).mean()
        )
        self.record(generator_loss=loss)
        return self.gamma * self.feature_loss(features, again) + loss

    def discriminator_loss(self, x: Tensor) -> Tensor:
        """-L_GAN in nats."""
        with torch.no_grad():
            again, drawn = self.decode(self.sample_posterior(x)), self.sample(len(x))
        score, score_again, score_drawn = (self.discriminator(image).float() for image in (x, again, drawn))
        loss = softplus(-score).mean() + softplus(score_again).mean() + softplus(score_drawn).mean()
        self.record(
            discriminator_loss=loss,
            score_real=score.mean(),
            score_reconstruction=score_again.mean(),
            score_fake=score_drawn.mean(),
        )
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        of_encoder = [p for part in (self.encoder, self.posterior, self.prior) for p in part.parameters()]
        return [
            self.encoder_optimizer(of_encoder),
            self.generator_optimizer(self.generator.parameters()),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]
