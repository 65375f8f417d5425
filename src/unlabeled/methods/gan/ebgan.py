"""Energy-based GAN with a pulling-away term.

Zhao, Mathieu & LeCun 2017, https://arxiv.org/abs/1609.03126, equations 1, 2 and 14. The discriminator is an
autoencoder, and its score minus the energy; the game is GAN's with the objective `margin`, and one line more in the
generator's turn: the codes that the discriminator's encoder gives of a batch of fakes shall be orthogonal, so that the
fakes differ.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.errors import UserError, require_several
from unlabeled.methods.gan.gan import GAN


class EBGAN(GAN):
    def __init__(
        self,
        pulling_away: float,  # weight of the term
        **named: Any,  # of GAN, whose discriminator is nn.autoencoder_discriminator's
    ):
        super().__init__(**named)
        if pulling_away < 0:
            raise UserError(f"model.pulling_away={pulling_away}: it must not be negative")
        self.pulling_away = pulling_away

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        seen = self.augmentation(fake)
        codes = self.discriminator.features(seen)  # type: ignore[operator]
        loss = self.objective.generator(self.discriminator.score(codes, seen))  # type: ignore[operator]
        require_several(codes, "the pulling-away term")
        alike = likeness(codes.float())
        self.record(generator_loss=loss, pulling_away=alike)
        return loss + self.pulling_away * alike


def likeness(codes: Tensor) -> Tensor:
    """Equation 14: mean squared cosine between the codes (B, D) of different images."""
    n = len(codes)
    cosine = normalize(codes, dim=1) @ normalize(codes, dim=1).T
    return (cosine.square().sum() - torch.diagonal(cosine).square().sum()) / max(n * (n - 1), 1)
