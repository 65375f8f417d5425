"""Generative adversarial network, unconditional.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1: the discriminator takes k steps, then the
generator one. DCGAN, and whatever differs from it in objective, penalty or network only, is this algorithm: see
conf/model/.

One batch is one step of the discriminator. On every k-th the generator steps too, against the discriminator that has
just moved, with the fakes that the discriminator saw: their forward pass serves both (the paper draws them anew, which
means the same).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.batches import Images, Points
from unlabeled.errors import UserError
from unlabeled.methods.method import Adversarial
from unlabeled.nn.layers.batch_statistics import freeze_batch_norm_stats, has_batch_norm, uses_batch_statistics


class GAN(Adversarial):
    batch: ClassVar[type | tuple[type, ...]] = (Images, Points)

    def __init__(
        self,
        generator: nn.Module,  # z (B, Z) -> x (B, C, H, W) in [-1, 1], or points (B, D)
        discriminator: nn.Module,  # x (B, ...) -> score (B,)
        latent_dim: int,  # Z
        objective: Any,  # losses.adversarial
        penalty: Callable[..., Tensor],  # losses.penalty
        augmentation: nn.Module,  # nn.augmentation: x -> what the discriminator sees of x
        generator_optimizer: Callable[..., Optimizer],
        discriminator_optimizer: Callable[..., Optimizer],
        schedule: Callable[[float], float],  # share of the run -> factor of the learning rates
        discriminator_steps: int = 1,  # k in algorithm 1
    ):
        super().__init__()
        if discriminator_steps < 1:
            raise UserError(f"discriminator_steps={discriminator_steps}: at least 1")
        if getattr(penalty, "needs_double_backward", False) and has_batch_norm(discriminator):
            raise UserError(
                f"penalty={type(penalty).__name__} and a discriminator with batch norm: its gradient at one image "
                "would depend on the others; say model.discriminator.batch_norm=false or take another discriminator"
            )
        if getattr(augmentation, "reads_signs", False) and not getattr(objective, "has_signed_score", False):
            raise UserError(
                f"augmentation=ada reads the signs of the discriminator's scores, and with {type(objective).__name__} "
                "they say nothing: take objective=non_saturating, minimax or hinge, or augmentation=diff_augment"
            )
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = latent_dim
        self.objective = objective
        self.penalty = penalty
        self.augmentation = augmentation
        self.discriminator_steps = discriminator_steps
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.schedule = schedule
        self.separate_batches = uses_batch_statistics(discriminator)

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, self.latent_dim, device=self.device)

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).float()

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        players: Any = self.optimizers()
        generator, discriminator = players
        last = self.is_update_batch(self.discriminator_steps)
        with torch.set_grad_enabled(last):
            fake = self.draw(len(batch.x), last)
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach())
        if last:
            self.update(generator, self.generator_loss, batch.x, fake)

    def draw(self, n: int, last: bool) -> Tensor:
        """n fakes."""
        with self.statistics(last):
            return self.sample(n)

    def statistics(self, last: bool) -> AbstractContextManager[None]:
        """The generator's batch norm counts only the fakes of its own turn: the last of k."""
        return nullcontext() if last else freeze_batch_norm_stats(self.generator)

    def scores(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's, (B,) each, in one pass unless it sees its batch as a whole."""
        if self.separate_batches:
            return self.discriminator(real).float(), self.discriminator(fake).float()
        score_real, score_fake = self.discriminator(torch.cat([real, fake])).float().split([len(real), len(fake)])
        return score_real, score_fake

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        score_real, score_fake = self.scores(real, fake)
        loss = self.objective.discriminator(score_real, score_fake)
        penalty = self.penalty(self.discriminator, real, fake)
        self.record(**self.augmentation.observe(score_real.detach()))  # type: ignore[operator]
        self.record(
            discriminator_loss=loss, penalty=penalty, score_real=score_real.mean(), score_fake=score_fake.mean()
        )
        return loss + penalty

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = self.objective.generator(self.discriminator(self.augmentation(fake)).float())
        self.record(generator_loss=loss)
        return loss

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.generator_optimizer(self.generator.parameters()),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]
