"""Auxiliary classifier GAN: the discriminator also classifies images, real and generated.

Odena, Olah & Shlens 2017, https://arxiv.org/abs/1610.09585, equations 2 and 3. Fakes G(z, c) of classes c drawn
anew, uniformly from those that training images have:

    L_S = E log P(S = real | x) + E log P(S = fake | G(z, c))         the objective's, whichever it is
    L_C = E log P(C = c | x) + E log P(C = c | G(z, c))
    D maximises L_S + weight L_C, G maximises weight L_C - L_S

L_C of real images has no gradient for the generator. With `fake_class_weight` = 0 the discriminator leaves out that of
fakes: if it learns from them, both players can agree on other classes than the data's. A code is a one-hot class
followed by z: (B, K + Z).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.gan.two_player import TwoPlayerGAN
from unlabeled.nn.gan.discriminators import scores_and_answers
from unlabeled.nn.layers.labels import Labels


class ACGAN(TwoPlayerGAN):
    # generator: z (B, Z), y (B, K) -> x (B, C, H, W); discriminator: x -> score (B,), logits (B, K)

    def __init__(
        self,
        classes: int | None,  # K
        weight: float,  # of L_C
        fake_class_weight: float,  # of L_C of fakes, in the discriminator's turn; paper: 1
        **named: Any,  # of TwoPlayerGAN
    ):
        super().__init__(**named)
        if weight < 0 or fake_class_weight < 0:
            raise UserError(
                f"model.weight={weight}, model.fake_class_weight={fake_class_weight}: they must not be negative"
            )
        self.labels = Labels("model=acgan", classes)
        self.classes = self.labels.classes
        self.weight, self.fake_class_weight = weight, fake_class_weight

    def sample_prior(self, n: int) -> Tensor:
        return torch.cat([self.labels.one_hot(self.labels.pick(n)), super().sample_prior(n)], 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z[:, self.classes :], z[:, : self.classes]).float()

    def sample_class(self, y: Tensor) -> Tensor:
        return self.decode(torch.cat([self.labels.one_hot(y), super().sample_prior(len(y))], 1))

    def classify(self, x: Tensor) -> Tensor:
        return self.discriminator(x)[1].float()

    def training_step(self, batch: Images, batch_idx: int) -> None:
        generator, discriminator = self.players()
        last = self.is_update_batch(self.discriminator_steps)
        y = self.labels(batch.y)
        codes = self.sample_prior(len(y))
        drawn = codes[:, : self.classes].argmax(1)
        with torch.set_grad_enabled(last), self.statistics(last):
            fake = self.decode(codes)
        self.update(discriminator, self.discriminator_loss, batch.x, fake.detach(), y, drawn)
        if last:
            self.update(generator, self.generator_loss, batch.x, fake, drawn)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """Accuracy of the classifier on images whose class is known."""
        rows = (batch.y >= 0).sum()
        right = (self.classify(batch.x).argmax(1) == batch.y).sum()  # no class is -1
        self.record(rows=rows, accuracy=right / rows.clamp(min=1))

    def on_train_epoch_end(self) -> None:
        self.labels.check()

    def discriminator_loss(self, real: Tensor, fake: Tensor, y: Tensor, drawn: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        (score_real, logits_real), (score_fake, logits_fake) = scores_and_answers(
            self.discriminator, real, fake, self.separate_batches
        )
        loss_real, loss_fake = cross_entropy(logits_real, y), cross_entropy(logits_fake, drawn)
        class_loss = loss_real + self.fake_class_weight * loss_fake  # -L_C, in nats
        loss = self.penalized_loss((score_real, score_fake), lambda x: self.discriminator(x)[0], real, fake)
        self.record(class_loss=class_loss, accuracy=(logits_real.argmax(1) == y).float().mean())
        return loss + self.weight * class_loss

    def generator_loss(self, real: Tensor, fake: Tensor, drawn: Tensor) -> Tensor:
        score, logits = self.discriminator(self.augmentation(fake))
        loss, class_loss = self.objective.generator(score.float()), cross_entropy(logits.float(), drawn)
        self.record(generator_loss=loss, generator_class_loss=class_loss)
        return loss + self.weight * class_loss
