"""GAN with access to the discriminator's scores, for figure 1 of the paper on one-dimensional data.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, figure 1 and proposition 1: the optimal discriminator's score
is log p_data(x) - log p_g(x), 0 where both are equal. Otherwise as GAN.
"""

from torch import Tensor

from unlabeled.methods.gan.gan import GAN


class GAN1D(GAN):
    def score(self, x: Tensor) -> Tensor:
        return self.discriminator(x).float()
