"""Conditional VAE: a VAE of images given their class.

Sohn et al. 2015, https://proceedings.neurips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html,
equation 4, for images x given classes y, which encoder and decoder both read:

    log p(x|y) >= E log p(x|y, z) - KL(q(z|x, y) || p(z)),  z ~ q(z|x, y)

The paper's prior depends on y; here z is independent of y (their section 4.1 allows it), so that a code describes an
image apart from its class. Images without a class are refused. The logged ELBO bounds log p(x|y).
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images
from unlabeled.distributions.kl import KL
from unlabeled.distributions.likelihood import Likelihood
from unlabeled.distributions.posterior import Posterior
from unlabeled.distributions.prior import StandardNormal
from unlabeled.methods.method import Method
from unlabeled.nn.layers.labels import Labels


class ConditionalVAE(Method):
    monitor = "val/negative_elbo"

    def __init__(
        self,
        encoder: nn.Module,  # x (B, C, H, W), y (B,) -> h (B, num_params * Z), the posterior's parameters
        decoder: nn.Module,  # z (B, Z), y (B,) -> output (B, outputs * C, H, W), the likelihood's parameters
        likelihood: Likelihood,
        posterior: Posterior,
        kl: KL,
        classes: int | None,  # K
        latent_dim: int,  # Z
        optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rate
    ):
        super().__init__()
        self.labels = Labels("model=conditional_vae", classes)
        self.classes = self.labels.classes
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.posterior = posterior
        self.prior = StandardNormal(latent_dim)
        self.kl = kl
        self.optimizer = optimizer
        self.schedule = schedule

    def sample_class(self, y: Tensor) -> Tensor:
        return self.likelihood.mean(self.decoder(self.prior.sample(len(y)), y).float())

    def sample(self, n: int) -> Tensor:
        return self.sample_class(self.labels.pick(n))

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.loss(batch)

    def loss(self, batch: Images) -> Tensor:
        """The negative bound on log p(x|y), its KL weighted, in nats, mean over the batch."""
        x, y = self.likelihood.observe(batch.x), self.labels(batch.y)
        drawn = self.posterior.draw(self.encoder(x, y))
        log_px_yz = self.likelihood.log_prob(self.decoder(drawn.z, y).float(), x)
        kl = self.prior.kl(drawn)
        total = kl.sum(1).mean()
        self.record(negative_elbo=total - log_px_yz.mean(), kl=total, reconstruction_loss=-log_px_yz.mean())
        return self.kl(kl, self.progress) - log_px_yz.mean()

    def on_train_epoch_end(self) -> None:
        self.labels.check()

    def configure_optimizers(self) -> Optimizer:
        return self.optimizer(p for p in self.parameters() if p.requires_grad)
