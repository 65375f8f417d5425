"""Self-supervised GAN: the discriminator also predicts the rotation of images.

Chen et al. 2019, https://arxiv.org/abs/1811.11212, equations 2 and 3. x^r: x rotated by r of 0, 90, 180, 270 degrees:

    L_G = -V(G, D) - alpha E log Q_D(R = r | G(z)^r)
    L_D =  V(G, D) - beta  E log Q_D(R = r | x^r)

The discriminator learns rotations from real images only, which stabilises its features; the generator makes images
whose rotation it recognises. Scores are of images that are not rotated; a quarter of a batch is used in its four
rotations.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.gan.gan import GAN
from unlabeled.methods.pretext.rotation import rotate4
from unlabeled.nn.gan.discriminators import scores_and_answers


class SSGAN(GAN):
    # discriminator: x (B, C, S, S) -> score (B,), logits of the rotation (B, 4)
    batch = Images

    def __init__(
        self,
        generator_weight: float,  # alpha
        discriminator_weight: float,  # beta
        shape: Sequence[int],  # (C, S, S) of the images
        **named: Any,  # of GAN
    ):
        super().__init__(**named)
        if shape[1] != shape[2]:
            raise UserError(
                f"model=ssgan rotates images by 90 degrees and needs square ones, not {shape[1]}x{shape[2]}: "
                f"say data.shape=[{shape[0]},{min(shape[1:])},{min(shape[1:])}]"
            )
        if generator_weight < 0 or discriminator_weight < 0:
            raise UserError(
                f"model=ssgan: generator_weight={generator_weight}, discriminator_weight={discriminator_weight}: "
                "neither is negative"
            )
        self.generator_weight, self.discriminator_weight = generator_weight, discriminator_weight

    def rotation_loss(self, x: Tensor) -> Tensor:
        """-log Q_D(r | x^r) in nats, of the first quarter of a (shuffled) batch in all four rotations."""
        rotated, truth = rotate4(x[: -(-len(x) // 4)])
        return cross_entropy(self.discriminator(rotated)[1].float(), truth)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        (score_real, _), (score_fake, _) = scores_and_answers(self.discriminator, real, fake, self.separate_batches)
        rotation_loss = self.rotation_loss(real)
        loss = self.penalized_loss((score_real, score_fake), lambda x: self.discriminator(x)[0], real, fake)
        self.record(rotation_loss_real=rotation_loss)
        return loss + self.discriminator_weight * rotation_loss

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        fake = self.augmentation(fake)
        loss = self.objective.generator(self.discriminator(fake)[0].float())
        rotation_loss = self.rotation_loss(fake)
        self.record(generator_loss=loss, rotation_loss_fake=rotation_loss)
        return loss + self.generator_weight * rotation_loss
