"""Variational autoencoder.

Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, algorithm 1 with the estimator of equation 10:

    ELBO = log p(x|z) - KL(q(z|x) || p(z)),  z ~ q(z|x)

Methods that differ from it in likelihood, prior, posterior or the KL's weight only are this algorithm: see conf/model/.
The logged and the evaluated ELBO has no such weight.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.distributions.kl import KL
from unlabeled.distributions.likelihood import InvertsMean, Likelihood
from unlabeled.distributions.posterior import Drawn, Posterior
from unlabeled.distributions.prior import Prior
from unlabeled.methods.method import Method
from unlabeled.nn.autoencoders.fully_connected import StartsAt


class VAE(Method):
    monitor = "val/negative_elbo"

    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W) -> h (B, num_params * Z), the posterior's parameters
        decoder: nn.Module,  # z (B, Z) -> output (B, outputs * C, H, W), the likelihood's parameters
        likelihood: Likelihood,
        prior: Prior,
        posterior: Posterior,
        kl: KL,
        latent_dim: int,  # Z
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.posterior = posterior
        self.kl = kl
        self.bin_width = likelihood.bin_width
        self.latent_dim = latent_dim
        self.optimizer = optimizer
        self.schedule = schedule

    def setup(self, stage: str) -> None:
        """Where decoder and likelihood allow it, the first decoded image is the mean of the training images.

        A checkpoint's weights are loaded later and replace it.
        """
        if stage == "fit" and isinstance(self.decoder, StartsAt) and isinstance(self.likelihood, InvertsMean):
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            table, total = data.table("train"), torch.zeros((), dtype=torch.float64)
            for rows in torch.arange(len(table)).split(1000):
                total = total + table.batch(rows).x.double().sum(0)
            self.decoder.start_at(self.likelihood.output_of((total / len(table)).float()))

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log_var (B, Z) of q(z|x), or of the Gaussian that its flow starts from."""
        return self.posterior.read(self.encoder(x))

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior.mean(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.mean(self.decoder(z).float())

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample_prior(self, n: int) -> Tensor:
        return self.prior.sample(n, self.infer)

    def sample_posterior(self, x: Tensor) -> Tensor:
        return self.posterior.draw(self.encoder(self.observe(x))).z

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def log_likelihood(self, x: Tensor) -> Tensor:
        log_px_z, kl = self.elbo_terms(x)
        return log_px_z - kl

    def observe(self, x: Tensor) -> Tensor:
        return self.likelihood.observe(x)

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        """log p(x|z) + log p(z) - log q(z|x) for k draws z ~ q(z|x), (k, B), in nats. Burda et al. 2016, equation 8."""
        x = self.observe(x)
        drawn = self.posterior.draw(self.encoder(x), k)  # z (k, B, Z)
        output = self.decoder(drawn.z.flatten(0, 1)).float().unflatten(0, drawn.z.shape[:2])  # (k, B, C, H, W)
        return self.likelihood.log_prob(output, x) + self.prior.log_prob(drawn.z, self.infer) - drawn.log_q

    def elbo_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x|z) for one z ~ q(z|x), and KL(q(z|x) || p(z)), each (B,), in nats."""
        log_px_z, kl, _ = self.terms(x)
        return log_px_z, kl.sum(1)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor, Drawn]:
        """The same, the KL by dimension (B, Z), or (B, 1) where only its sum is known; and the draw."""
        x = self.observe(x)
        drawn = self.posterior.draw(self.encoder(x))
        return self.likelihood.log_prob(self.decoder(drawn.z).float(), x), self.prior.kl(drawn, self.infer), drawn

    def training_step(self, batch: Images, batch_idx: int) -> Tensor | None:
        log_px_z, kl, _ = self.terms(batch.x)
        self.log_elbo(log_px_z, kl)
        return self.kl(kl, self.progress) - log_px_z.mean()

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        log_px_z, kl, _ = self.terms(batch.x)
        self.log_elbo(log_px_z, kl)

    def log_elbo(self, log_px_z: Tensor, kl: Tensor) -> None:
        """Record the negative ELBO and its terms, in nats."""
        kl = kl.sum(1).mean()
        self.record(negative_elbo=kl - log_px_z.mean(), kl=kl, reconstruction_loss=-log_px_z.mean())

    def configure_optimizers(self) -> Optimizer | list[Optimizer]:
        return self.optimizer(p for p in self.parameters() if p.requires_grad)
