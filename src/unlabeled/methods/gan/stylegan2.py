"""StyleGAN2: styles modulate weights, and both regularizers are lazy.

Karras et al. 2020, https://arxiv.org/abs/1912.04958, sections 3.1 and 3.2. Both players have the logistic objective.
On every k-th batch the discriminator takes one more step on R1, the generator one on path length, each times k; Adam's
learning rates and betas are lr k / (k + 1) and beta^(k / (k + 1)), as if the k + 1 steps were k (appendix B).

The running mean of the path lengths is a constant to the gradient; in the authors' code 1% of it is not.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unlabeled.batches import Images, Points
from unlabeled.errors import UserError
from unlabeled.losses.path_length import PathLength
from unlabeled.losses.penalty import eager
from unlabeled.methods.gan.stylegan import StyleGAN


class StyleGAN2(StyleGAN):
    path_mean: Tensor

    def __init__(
        self,
        path_length: PathLength,
        penalty_every: int,  # steps of the discriminator, k
        path_length_every: int,  # steps of the generator, k
        **named: Any,  # of StyleGAN
    ):
        super().__init__(**named)
        if not getattr(self.penalty, "needs_double_backward", False):
            raise UserError(
                "model=stylegan2 takes steps on the penalty alone, which then needs a gradient: say penalty=r1"
            )
        if min(penalty_every, path_length_every) < 1:
            raise UserError(f"penalty_every={penalty_every}, path_length_every={path_length_every}: at least 1 each")
        self.path_length = path_length
        self.penalty_every, self.path_length_every = penalty_every, path_length_every
        self.register_buffer("path_mean", torch.zeros(()))

    def on_fit_start(self) -> None:
        if self.accumulate > 1:
            raise UserError(
                f"accumulate={self.accumulate}: StyleGAN2's steps on its regularizers would use the players' "
                "unfinished gradients: say accumulate=1"
            )

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        generator, discriminator = self.players()
        fake = self.draw(len(batch.x), last=True)
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach())
        if self.is_update_batch(self.penalty_every):
            self.update(discriminator, self.penalty_loss, batch.x, fake.detach())
        self.update(generator, self.generator_loss, batch.x, fake)
        if self.is_update_batch(self.path_length_every):
            self.update(generator, self.path_loss, batch.x)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        score_real, score_fake = self.scores(self.augmentation(real), self.augmentation(fake))
        loss = self.objective.discriminator(score_real, score_fake)
        self.record_scores(loss, score_real, score_fake)
        return loss

    def penalty_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        penalty = self.penalty(self.discriminator, self.augmentation(real), self.augmentation(fake))
        self.record(penalty=penalty)
        return penalty * self.penalty_every

    def path_loss(self, real: Tensor) -> Tensor:
        """Of half as many images, as in the authors' code; in float32, with an eager generator."""
        with torch.autocast(real.device.type, enabled=False), eager(self.generator):
            w = self.styles(-(-len(real) // 2))
            lengths = self.path_length.lengths(self.generator(w), w)
        self.path_mean.lerp_(lengths.detach().mean(), self.path_length.decay)
        loss = self.path_length(lengths, self.path_mean)
        self.record(path_length=lengths.mean(), path_penalty=loss)
        return loss * self.path_length_every

    def configure_optimizers(self) -> list[Optimizer]:
        generator, discriminator = super().configure_optimizers()
        return [lazily(generator, self.path_length_every), lazily(discriminator, self.penalty_every)]


def lazily(optimizer: Optimizer, every: int) -> Optimizer:
    """With lr k / (k + 1) and betas^(k / (k + 1)): a step more on every k-th batch leaves both as they were."""
    share = every / (every + 1)
    for group in optimizer.param_groups:
        group["lr"] *= share
        if "betas" in group:
            group["betas"] = tuple(beta**share for beta in group["betas"])
    return optimizer
