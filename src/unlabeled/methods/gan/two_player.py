"""Constructor, samples, scores and optimizers that GANs of one generator and one discriminator share.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1. A subclass writes the turns and the losses.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.errors import UserError
from unlabeled.losses.adversarial import Objective
from unlabeled.losses.penalty import Penalty, Score, eager
from unlabeled.methods.method import Adversarial
from unlabeled.nn.augment.augmentation import Augmentation
from unlabeled.nn.layers.batch_statistics import freeze_batch_norm_stats, has_batch_norm, uses_batch_statistics


class TwoPlayerGAN(Adversarial):
    def __init__(
        self,
        generator: nn.Module,  # z (B, Z) -> x (B, C, H, W) in [-1, 1], or points (B, D)
        discriminator: nn.Module,  # x (B, ...) -> score (B,)
        latent_dim: int,  # Z
        objective: Objective,
        penalty: Penalty,
        augmentation: Augmentation,
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
                f"augmentation=ada reads the signs of the discriminator's scores, which mean nothing with "
                f"{type(objective).__name__}: take objective=non_saturating, minimax or hinge, or "
                "augmentation=diff_augment"
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

    def statistics(self, last: bool) -> AbstractContextManager[None]:
        """The generator's batch norm counts only the fakes of its own turn: the last of k."""
        return nullcontext() if last else freeze_batch_norm_stats(self.generator)

    def scores(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B,) of real and of fake inputs, given as the discriminator's first real, first fake, second real, ...

        In one pass, unless the discriminator uses statistics of its batch.
        """
        real, fake = inputs[::2], inputs[1::2]
        if self.separate_batches:
            return self.discriminator(*real).float(), self.discriminator(*fake).float()
        both = self.discriminator(*(torch.cat(pair) for pair in zip(real, fake, strict=True))).float()
        score_real, score_fake = both.split([len(real[0]), len(fake[0])])
        return score_real, score_fake

    def penalized_loss(self, scores: tuple[Tensor, Tensor], discriminator: Score, real: Tensor, fake: Tensor) -> Tensor:
        """The objective of the discriminator, plus the penalty on `discriminator` as a function of x alone."""
        score_real, score_fake = scores
        loss = self.objective.discriminator(score_real, score_fake)
        with eager(self.discriminator):
            penalty = self.penalty(discriminator, real, fake)
        self.record_scores(loss, score_real, score_fake)
        self.record(penalty=penalty)
        return loss + penalty

    def record_scores(self, loss: Tensor, score_real: Tensor, score_fake: Tensor) -> None:
        """Record the discriminator's turn; the augmentation adapts to the scores of real images."""
        self.record(discriminator_loss=loss, score_real=score_real.mean(), score_fake=score_fake.mean())
        self.record(**self.augmentation.observe(score_real.detach()))

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            self.generator_optimizer(self.generator.parameters()),
            self.discriminator_optimizer(self.discriminator.parameters()),
        ]
