"""Wasserstein autoencoder with maximum mean discrepancy.

Tolstikhin, Bousquet, Gelly & Schoelkopf 2018, https://arxiv.org/abs/1711.01558, algorithm 2:

    min over f, g of  E L(x, g(f(x))) + lambda MMD(q(z), p(z))

q(z) is the distribution of all codes f(x). Both terms are estimated on a batch, the second from as many draws of
p(z) as there are codes: small batches make it noisy.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from unlabeled.distributions.prior import FixedPrior
from unlabeled.errors import UserError
from unlabeled.methods.autoencoder.autoencoder import Autoencoder


class WAEMMD(Autoencoder):
    def __init__(
        self,
        prior: FixedPrior,  # p(z)
        divergence: Callable[[Tensor, Tensor], Tensor],  # losses.mmd: codes (B, D), draws of p(z) (B, D) -> scalar
        scale: float,  # lambda; large, as L is a sum over pixels
        **named: Any,  # of Autoencoder
    ):
        super().__init__(**named)
        if scale < 0:
            raise UserError(f"model.scale={scale} must not be negative")
        self.prior = prior
        self.divergence = divergence
        self.scale = scale

    def sample_prior(self, n: int) -> Tensor:
        return self.prior.sample(n)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.sample_prior(n))

    def loss(self, input: Tensor, target: Tensor) -> Tensor:
        """L + lambda MMD + Omega, mean over the batch; pixels are summed."""
        z = self.encoder(input).float()
        error = self.distance(self.decoder(self.bottleneck(z)).float(), target).mean()
        divergence = self.divergence(z, self.sample_prior(len(z)))
        loss = error + self.scale * divergence + self.regularizer(self.encoder, self.decoder, input, z)
        self.record(loss=loss, reconstruction_loss=error, mmd=divergence)
        return loss
