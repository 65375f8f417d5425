"""Energy-based GAN with a pulling-away term.

Zhao, Mathieu & LeCun 2017, https://arxiv.org/abs/1609.03126, equations 1, 2 and 14. The discriminator is an
autoencoder, and its score is minus the energy. The algorithm is GAN's with the objective `margin` and one more term of
the generator's loss: it makes the codes of a batch of fakes, by the discriminator's encoder, orthogonal, so that the
fakes differ.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.errors import UserError, require_several
from unlabeled.methods.gan.gan import GAN
from unlabeled.nn.gan.autoencoder_discriminator import AutoencoderDiscriminator


class EBGAN(GAN):
    discriminator: AutoencoderDiscriminator

    def __init__(
        self,
        pulling_away: float,  # weight of the term
        **named: Any,  # of GAN
    ):
        super().__init__(**named)
        if pulling_away < 0:
            raise UserError(f"model.pulling_away={pulling_away}: it must not be negative")
        self.pulling_away = pulling_away

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        fake = self.augmentation(fake)
        codes = self.discriminator.features(fake)
        loss = self.objective.generator(self.discriminator.score(codes, fake))
        require_several(codes, "the pulling-away term")
        pulling_away = mean_squared_cosine(codes.float())
        self.record(generator_loss=loss, pulling_away=pulling_away)
        return loss + self.pulling_away * pulling_away


def mean_squared_cosine(codes: Tensor) -> Tensor:
    """Equation 14, between the codes (B, D) of different images."""
    n = len(codes)
    cosine = normalize(codes, dim=1) @ normalize(codes, dim=1).T
    return (cosine.square().sum() - torch.diagonal(cosine).square().sum()) / max(n * (n - 1), 1)
