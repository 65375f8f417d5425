"""Unrolled GAN: the generator's loss is that against the discriminator after K more steps.

Metz et al. 2017, https://arxiv.org/abs/1611.02163, equations 4 to 7. With f the value of the game, and
f_K(theta_G, theta_D) = f(theta_G, theta_D^K) its value after K more steps of the discriminator, each on this batch,
by its own optimizer from its current state:

    theta_G <- theta_G - eta d f_K(theta_G, theta_D) / d theta_G, through the K steps
    theta_D <- theta_D + eta d f(theta_G, theta_D) / d theta_D: it moves one step only

Both from the weights before the batch, so the generator's turn comes first; K = 0 is a GAN with simultaneous steps.

f is minus the objective's loss of the discriminator, of real and fake scores, as in the authors' code; the penalty is
not part of it and is the discriminator's only. The term of real images counts: theta_D^K depends on the fakes. So the
game is zero-sum whatever the objective, and the objective's loss of the generator is not used: minimax and
non_saturating, whose discriminators are the same, are the same here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer

from unlabeled.batches import Images, Points
from unlabeled.errors import UserError
from unlabeled.losses.penalty import eager
from unlabeled.methods.gan.gan import GAN
from unlabeled.optim.unrolling import check_unrolls, unrolled


class UnrolledGAN(GAN):
    def __init__(
        self,
        unrolled_steps: int,  # K
        **named: Any,  # of GAN
    ):
        super().__init__(**named)
        if unrolled_steps < 0:
            raise UserError(f"model.unrolled_steps={unrolled_steps}: 0 or more")
        self.unrolled_steps = unrolled_steps

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        generator, discriminator = self.players()
        last = self.is_update_batch(self.discriminator_steps)
        with torch.set_grad_enabled(last):
            fake = self.draw(len(batch.x), last)
        if last:
            self.update(generator, self.generator_loss, batch.x, fake)
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach())

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        with eager(self.discriminator):
            loss = -self.objective.discriminator(*self.unrolled_scores(self.trainer.optimizers[1], real, fake))
        self.record(generator_loss=loss)
        return loss

    def unrolled_scores(self, optimizer: Optimizer, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B,) of both by the discriminator after K steps, with a graph to `fake` through the steps."""
        names = [name for name, _ in self.discriminator.named_parameters()]

        def score(weights: Sequence[Tensor], x: Tensor) -> Tensor:
            # copies, as the discriminator's own must not change
            buffers = {name: buffer.clone() for name, buffer in self.discriminator.named_buffers()}
            return functional_call(self.discriminator, buffers | dict(zip(names, weights, strict=True)), (x,)).float()

        def scores(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            if self.separate_batches:
                return score(weights, real), score(weights, fake)
            score_real, score_fake = score(weights, torch.cat([real, fake])).split([len(real), len(fake)])
            return score_real, score_fake

        def loss(weights: Sequence[Tensor]) -> Tensor:
            return self.objective.discriminator(*scores(weights)) + self.penalty(
                lambda x: score(weights, x), real, fake
            )

        return scores(unrolled(optimizer, loss, self.unrolled_steps))

    def configure_optimizers(self) -> list[Optimizer]:
        generator, discriminator = super().configure_optimizers()
        check_unrolls(discriminator)
        return [generator, discriminator]
