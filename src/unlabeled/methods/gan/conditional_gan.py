"""Conditional GAN: the class is an input of generator and discriminator.

Mirza & Osindero 2014, https://arxiv.org/abs/1411.1784, equation 2, with p(y) uniform for fakes over the
classes that training images have:

    min_G max_D  E log D(x, y) + E log(1 - D(G(z, y'), y'))

Real images come with their classes y; the classes y' of fakes are drawn anew. With a projection
discriminator and class-conditional batch norm this is the GAN of Miyato & Koyama 2018,
https://arxiv.org/abs/1802.05637, equation 3 and section 5.

Penalties are taken with the classes of the real images. A code is a one-hot class followed by z: (B, K + Z).
"""

from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images
from unlabeled.methods.gan.two_player import TwoPlayerGAN
from unlabeled.nn.layers.labels import Labels


class ConditionalGAN(TwoPlayerGAN):
    # generator: z (B, Z), y (B, K) -> x (B, C, H, W); discriminator: x, y (B, K) -> score (B,)

    def __init__(
        self,
        classes: int | None,  # K
        **named: Any,  # of TwoPlayerGAN
    ):
        super().__init__(**named)
        self.labels = Labels("a conditional GAN", classes)
        self.classes = self.labels.classes

    def sample_prior(self, n: int) -> Tensor:
        return torch.cat([self.labels.one_hot(self.labels.pick(n)), super().sample_prior(n)], 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z[:, self.classes :], z[:, : self.classes]).float()

    def sample_class(self, y: Tensor) -> Tensor:
        return self.decode(torch.cat([self.labels.one_hot(y), super().sample_prior(len(y))], 1))

    def training_step(self, batch: Images, batch_idx: int) -> None:
        generator, discriminator = self.players()
        last = self.is_update_batch(self.discriminator_steps)
        y = self.labels.one_hot(self.labels(batch.y))
        codes = self.sample_prior(len(y))
        drawn = codes[:, : self.classes]
        with torch.set_grad_enabled(last), self.statistics(last):
            fake = self.decode(codes)
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach(), y, drawn)
        if last:
            self.update(generator, self.generator_loss, batch.x, fake, drawn)

    def on_train_epoch_end(self) -> None:
        self.labels.check()

    def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor, drawn: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        return self.penalized_loss(self.scores(real, fake, y, drawn), lambda x: self.discriminator(x, y), real, fake)

    def generator_loss(self, real: Tensor, fake: Tensor, drawn: Tensor) -> Tensor:
        loss = self.objective.generator(self.discriminator(self.augmentation(fake), drawn).float())
        self.record(generator_loss=loss)
        return loss
