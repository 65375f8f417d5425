"""beta-TCVAE: a VAE with a weight of its own for the total correlation.

Chen et al. 2018, https://arxiv.org/abs/1802.04942, equations 2 and 4; the mean KL over images is

    E KL(q(z|x) || p(z)) = I(z; x) + KL(q(z) || prod_d q(z_d)) + sum_d KL(q(z_d) || p(z_d))

and alpha, beta and gamma are their weights in training. They are estimated from the batch's draws (see
losses.total_correlation); the logged ELBO has the KL in closed form.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from unlabeled.batches import Images
from unlabeled.distributions.kl import Weighted
from unlabeled.distributions.posterior import Drawn
from unlabeled.errors import UserError, require_several
from unlabeled.losses.total_correlation import Aggregate, pairwise_log_normal
from unlabeled.methods.vae.vae import VAE


class BetaTCVAE(VAE):
    def __init__(
        self,
        estimator: Callable[[Tensor, int], Aggregate],  # losses.total_correlation: of q(z)
        alpha: float,  # weight of the index-code mutual information
        beta: float,  # of the total correlation
        gamma: float,  # of the dimension-wise KL
        **named: Any,  # of VAE
    ):
        super().__init__(kl=Weighted(), **named)  # not used: its parts have weights of their own
        if min(alpha, beta, gamma) < 0:
            raise UserError(f"model: alpha={alpha}, beta={beta} and gamma={gamma} must not be negative")
        self.estimator = estimator
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        log_px_z, kl, drawn = self.terms(batch.x)
        # of an epoch
        images = int(self.trainer.num_training_batches) * len(batch.x) * self.trainer.world_size
        information, correlation, dimensions = self.parts(drawn, images)
        self.log_elbo(log_px_z, kl)
        self.record(mutual_information=information, total_correlation=correlation, dimension_wise_kl=dimensions)
        return self.alpha * information + self.beta * correlation + self.gamma * dimensions - log_px_z.mean()

    def parts(self, drawn: Drawn, images: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mutual information, total correlation and dimension-wise KL in nats, estimated from one batch of `images`."""
        if drawn.gaussian is None:
            raise UserError("model=beta_tcvae needs q(z|x) of every code and image in closed form: posterior=gaussian")
        require_several(drawn.z, "the total correlation")
        aggregate = self.estimator(pairwise_log_normal(drawn.z, *drawn.gaussian), images)
        log_prior = self.prior.log_prob(drawn.z, self.infer)
        information = drawn.log_q - aggregate.log_q
        dimensions = aggregate.log_q_dimensions.sum(1) - log_prior
        return information.mean(), aggregate.total_correlation.mean(), dimensions.mean()
