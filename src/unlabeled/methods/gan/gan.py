"""Generative adversarial network, unconditional.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1: the discriminator takes k steps, then the
generator one. DCGAN, and other methods that differ from it in objective, penalty or network only, are this algorithm:
see conf/model/.

One batch is one step of the discriminator. On every k-th the generator steps too, against the discriminator that has
just moved, with the fakes that the discriminator saw: their forward pass serves both (the paper draws them anew, which
means the same).
"""

from typing import ClassVar

import torch
from torch import Tensor

from unlabeled.batches import Images, Points
from unlabeled.methods.gan.two_player import TwoPlayerGAN


class GAN(TwoPlayerGAN):
    batch: ClassVar[type | tuple[type, ...]] = (Images, Points)

    def training_step(self, batch: Images | Points, batch_idx: int) -> None:
        generator, discriminator = self.players()
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

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        return self.penalized_loss(self.scores(real, fake), self.discriminator, real, fake)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = self.objective.generator(self.discriminator(self.augmentation(fake)).float())
        self.record(generator_loss=loss)
        return loss
