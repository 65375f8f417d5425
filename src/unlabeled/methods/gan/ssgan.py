"""Self-supervised GAN: the discriminator also says which way up an image is.

Chen et al. 2019, https://arxiv.org/abs/1811.11212, equations 2 and 3. x^r: x turned by r of 0, 90, 180, 270 degrees:

    L_G = -V(G, D) - alpha E log Q_D(R = r | G(z)^r)
    L_D =  V(G, D) - beta  E log Q_D(R = r | x^r)

So discriminator and generator work together on turns: the discriminator learns them from real images alone and cannot
forget what it has learned of images, and the generator wants its own to be told. Scores are of images that are not
turned; a quarter of a batch appears in its four turns.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.gan.gan import GAN
from unlabeled.methods.pretext.rotation import rotate4
from unlabeled.nn.gan.discriminators import ask


class SSGAN(GAN):
    # Of GAN's parts: discriminator: x (B, C, S, S) -> score (B,), logits of the turn (B, 4)
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
                f"model=ssgan turns images by 90 degrees, which {shape[1]}x{shape[2]} ones cannot be: "
                f"say data.shape=[{shape[0]},{min(shape[1:])},{min(shape[1:])}]"
            )
        if generator_weight < 0 or discriminator_weight < 0:
            raise UserError(
                f"model=ssgan: generator_weight={generator_weight}, discriminator_weight={discriminator_weight}: "
                "neither is negative"
            )
        self.generator_weight, self.discriminator_weight = generator_weight, discriminator_weight

    def rotation_loss(self, x: Tensor) -> Tensor:
        """-log Q_D(r | x^r) in nats, of the first quarter of a batch in all four turns. Batches come shuffled."""
        turns, truth = rotate4(x[: -(-len(x) // 4)])
        return cross_entropy(self.discriminator(turns)[1].float(), truth)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        (score_real, _), (score_fake, _) = ask(self.discriminator, real, fake, self.separate_batches)
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
