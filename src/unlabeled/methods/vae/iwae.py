"""Importance-weighted autoencoder.

Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519, equation 8:

    L_k = E log 1/k sum_i w_i,  w_i = p(x, z_i) / q(z_i|x),  z_i ~ q(z|x)

Its gradient is that of each log w_i times w_i / sum_j w_j (equation 14). The logged ELBO is L_1, of the same draws.
"""

from typing import Any

from torch import Tensor

from unlabeled.batches import Images
from unlabeled.distributions.kl import Weighted
from unlabeled.distributions.posterior import log_mean_exp
from unlabeled.errors import UserError
from unlabeled.methods.vae.vae import VAE


class IWAE(VAE):
    monitor = "val/negative_bound"

    def __init__(
        self,
        num_samples: int,  # k
        **named: Any,  # of VAE
    ):
        super().__init__(kl=Weighted(), **named)  # not used: the bound has no KL of its own
        if num_samples < 1:
            raise UserError(f"model.num_samples={num_samples}: at least 1")
        self.num_samples = num_samples

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        return self.bound(batch.x)

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        self.bound(batch.x)

    def bound(self, x: Tensor) -> Tensor:
        """-L_k in nats, mean over the batch."""
        log_w = self.log_weights(x, self.num_samples)  # (k, B)
        bound = log_mean_exp(log_w, 0).mean()
        self.record(negative_bound=-bound, negative_elbo=-log_w.mean())
        return -bound
