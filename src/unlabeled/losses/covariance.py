"""Covariances of codes over a batch, from the posteriors N(mu, diag exp(log_var)), each (B, Z) -> (Z, Z).

Kumar et al. 2018, https://arxiv.org/abs/1711.00848, section 3. DIP-VAE draws them to the identity.
"""

import torch
from torch import Tensor

from unlabeled.errors import require_several


class OfMeans:
    """Cov[mu(x)]: DIP-VAE-I, equation 6."""

    def __call__(self, mu: Tensor, log_var: Tensor) -> Tensor:
        require_several(mu, "a covariance of codes")
        centred = mu - mu.mean(0)
        return centred.T @ centred / len(mu)


class OfCodes(OfMeans):
    """Cov[z] = E[Cov[z|x]] + Cov[mu(x)]: DIP-VAE-II, equation 7."""

    def __call__(self, mu: Tensor, log_var: Tensor) -> Tensor:
        return torch.diag(log_var.exp().mean(0)) + super().__call__(mu, log_var)
