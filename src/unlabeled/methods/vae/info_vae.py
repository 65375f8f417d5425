"""InfoVAE.

Zhao et al. 2019, https://arxiv.org/abs/1706.02262, equation 6, with MMD for the second divergence (section 3.2):

    E log p(x|z) - (1 - alpha) E KL(q(z|x) || p(z)) - (alpha + lambda - 1) MMD(q(z), p(z))

alpha = 0, lambda = 1 is the VAE; alpha = 1, lambda = 1 an autoencoder with noise whose codes together are distributed
like p(z).
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from unlabeled.batches import Images
from unlabeled.distributions.kl import Weighted
from unlabeled.errors import UserError
from unlabeled.methods.vae.vae import VAE


class InfoVAE(VAE):
    def __init__(
        self,
        divergence: Callable[[Tensor, Tensor], Tensor],  # losses.mmd: codes (B, Z), draws of p(z) (B, Z) -> scalar
        alpha: float,  # weight of the mutual information of x and z, at most 1
        scale: float,  # lambda; large, as log p(x|z) is a sum over pixels
        **named: Any,  # of VAE
    ):
        super().__init__(kl=Weighted(), **named)  # not used: its weight is 1 - alpha
        if alpha > 1 or alpha + scale < 1:
            raise UserError(
                f"model: alpha={alpha} must be 1 at most, and alpha + scale (here {alpha + scale}) 1 or more"
            )
        self.divergence = divergence
        self.alpha, self.scale = alpha, scale

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        log_px_z, kl, drawn = self.terms(batch.x)
        divergence = self.divergence(drawn.z, self.sample_prior(len(drawn.z)))
        self.log_elbo(log_px_z, kl)
        self.record(mmd=divergence)
        kl_cost = (1 - self.alpha) * kl.sum(1).mean()
        return kl_cost + (self.alpha + self.scale - 1) * divergence - log_px_z.mean()
