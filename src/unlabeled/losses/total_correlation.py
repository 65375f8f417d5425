"""Estimates of the aggregate posterior q(z) = 1/N sum_n q(z|x_n) and its total correlation from a batch.

Chen et al. 2018, https://arxiv.org/abs/1802.04942. An estimator takes log q(z_i,d | x_j), (B, B, Z), z_i the draw of
image i, and N, and gives log q(z_i) (B,) and log q(z_i,d) of each dimension (B, Z). In nats:

    total correlation  KL(q(z) || prod_d q(z_d)) = E [log q(z) - sum_d log q(z_d)]
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Aggregate(NamedTuple):
    """Log densities at each draw of a batch, in nats."""

    log_q: Tensor  # log q(z), (B,)
    log_q_dimensions: Tensor  # log q(z_d), (B, Z)

    @property
    def total_correlation(self) -> Tensor:
        """(B,); its mean is the estimate."""
        return self.log_q - self.log_q_dimensions.sum(1)


def pairwise_log_normal(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """log N(z_i,d; mu_j,d, var_j,d) in nats, (B, Z) three times -> (B, B, Z)."""
    error = (z[:, None] - mu).square() * torch.exp(-log_var)
    return -0.5 * (math.log(2 * math.pi) + log_var + error)


class Stratified:
    """Minibatch stratified sampling, appendix C.2, unbiased for q(z); a batch is an image and M = B - 1 others:

        q(z_i) ~ 1/N q(z_i|x_i) + 1/M sum_{M - 1 others} q(z_i|x_j) + (N - M)/(N M) q(z_i|x_k),  x_k the one left

    The image's own posterior, the diagonal, weighs 1/N. The authors' code writes this into the first column instead.
    """

    def __call__(self, log_q: Tensor, images: int) -> Aggregate:
        log_weights = self.weights(len(log_q), images).log().to(log_q)  # (B, B)
        log_q_dimensions = (log_q + log_weights[..., None]).logsumexp(1)
        return Aggregate((log_q.sum(2) + log_weights).logsumexp(1), log_q_dimensions)

    def weights(self, batch: int, images: int) -> Tensor:
        """Of posterior j for draw i, (B, B); each row's sum is 1."""
        if batch == 1:
            return torch.ones(1, 1)
        others, n = batch - 1, max(images, batch)
        weights = torch.full((batch, batch), 1 / others)
        row = torch.arange(batch)
        weights[row, row] = 1 / n
        weights[row, (row + 1) % batch] = (n - others) / (n * others)
        return weights


class Weighted:
    """Minibatch weighted sampling, equation 5: q(z_i) ~ 1/(N B) sum_j q(z_i|x_j).

    Its weights add up to 1/N, which puts the total correlation (Z - 1) log N too high, a constant without a gradient.
    """

    def __call__(self, log_q: Tensor, images: int) -> Aggregate:
        scale = math.log(images * len(log_q))
        return Aggregate(log_q.sum(2).logsumexp(1) - scale, log_q.logsumexp(1) - scale)
