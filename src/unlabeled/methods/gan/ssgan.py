"""Self-supervised GAN: the critic also says which way up an image is.

Chen et al. 2019, https://arxiv.org/abs/1811.11212, equations 2 and 3. x^r: x turned by r of 0, 90, 180, 270 degrees:

    L_G = -V(G, D) - alpha E log Q_D(R = r | G(z)^r)
    L_D =  V(G, D) - beta  E log Q_D(R = r | x^r)

So critic and generator work together on turns: the critic learns them from real images alone and cannot forget what
it has learned of images, and the generator wants its own to be told. Scores are of images that are not turned; a
quarter of a batch appears in its four turns.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.losses.penalty import eager
from unlabeled.methods.gan.gan import GAN
from unlabeled.methods.pretext.rotation import turned
from unlabeled.nn.gan.answering import ask


class SSGAN(GAN):
    # Of GAN's parts: critic: x (B, C, S, S) -> score (B,), logits of the turn (B, 4)
    batch = Images

    def __init__(
        self,
        generator_weight: float,  # alpha
        critic_weight: float,  # beta
        shape: Sequence[int],  # (C, S, S) of the images
        **named: Any,  # of GAN
    ):
        super().__init__(**named)
        if shape[1] != shape[2]:
            raise UserError(
                f"model=ssgan turns images by 90 degrees, which {shape[1]}x{shape[2]} ones cannot be: "
                f"say data.shape=[{shape[0]},{min(shape[1:])},{min(shape[1:])}]"
            )
        if generator_weight < 0 or critic_weight < 0:
            raise UserError(
                f"model=ssgan: generator_weight={generator_weight}, critic_weight={critic_weight}: neither is negative"
            )
        self.generator_weight, self.critic_weight = generator_weight, critic_weight

    def turn_loss(self, x: Tensor) -> Tensor:
        """-log Q_D(r | x^r) in nats, of the first quarter of a batch in all four turns. Batches come shuffled."""
        turns, truth = turned(x[: -(-len(x) // 4)])
        return cross_entropy(self.critic(turns)[1].float(), truth)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = self.augmentation(real), self.augmentation(fake)
        (score_real, _), (score_fake, _) = ask(self.critic, real, fake, self.apart)
        loss, lost = self.objective.critic(score_real, score_fake), self.turn_loss(real)
        with eager(self.critic):
            penalty = self.penalty(lambda x: self.critic(x)[0], real, fake)
        self.record(**self.augmentation.observe(score_real.detach()))  # type: ignore[operator]
        self.record(critic_loss=loss, penalty=penalty, score_real=score_real.mean(), score_fake=score_fake.mean())
        self.record(turn_loss_real=lost)
        return loss + self.critic_weight * lost + penalty

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        fake = self.augmentation(fake)
        loss, lost = self.objective.generator(self.critic(fake)[0].float()), self.turn_loss(fake)
        self.record(generator_loss=loss, turn_loss_fake=lost)
        return loss + self.generator_weight * lost
