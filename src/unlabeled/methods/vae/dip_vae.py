"""DIP-VAE: disentangled inferred prior.

Kumar et al. 2018, https://arxiv.org/abs/1711.00848, equations 6 and 7: the ELBO minus

    lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2

with C a covariance over the batch (losses.covariance): that of the posterior means (I), or of the codes (II).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unlabeled.batches import Images
from unlabeled.errors import UserError
from unlabeled.methods.vae.vae import VAE


class DIPVAE(VAE):
    def __init__(
        self,
        covariance: Callable[[Tensor, Tensor], Tensor],  # losses.covariance: mu, log_var (B, Z) -> (Z, Z)
        off_diagonal: float,  # lambda_od
        diagonal: float,  # lambda_d
        **named: Any,  # of VAE
    ):
        super().__init__(**named)
        if min(off_diagonal, diagonal) < 0:
            raise UserError(f"model: off_diagonal={off_diagonal} and diagonal={diagonal} must not be negative")
        self.covariance = covariance
        self.off_diagonal, self.diagonal = off_diagonal, diagonal

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        log_px_z, kl, drawn = self.terms(batch.x)
        if drawn.gaussian is None:
            raise UserError("model=dip_vae needs the mean and variance of q(z|x): posterior=gaussian")
        penalty = self.penalty(self.covariance(*drawn.gaussian))
        self.log_elbo(log_px_z, kl)
        self.record(penalty=penalty)
        return self.kl(kl, self.progress) + penalty - log_px_z.mean()

    def penalty(self, covariance: Tensor) -> Tensor:
        """The sum above, of C (Z, Z)."""
        variances = covariance.diagonal()
        between = covariance - torch.diag(variances)
        return self.off_diagonal * between.square().sum() + self.diagonal * (variances - 1).square().sum()
