"""Semi-supervised VAE (M1+M2), from a few labelled and many unlabelled images.

Kingma et al. 2014, https://arxiv.org/abs/1406.5298. M1 is a VAE of images, z1 its code. M2 is a generative model of z1
and its class, so a prior of M1 (distributions.m2: -L bounds log p(z1, y), -U bounds log p(z1), and q(y|z1) is a
classifier). It minimises

    J^alpha / N,  J^alpha = sum_labelled L + sum_unlabelled U + alpha N mean_labelled -log q(y|z1)     (equation 9)

As in the paper (section 2.3) M1 is trained first, with N(0, I) as its prior, for the share `pretraining` of the run;
then M2, on draws of q(z1|x), with M1 fixed. The logged and evaluated ELBO, and samples, are of both together.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unlabeled.batches import Images
from unlabeled.distributions.m2 import M2
from unlabeled.distributions.prior import StandardNormal
from unlabeled.errors import UserError
from unlabeled.methods.vae.vae import VAE
from unlabeled.nn.layers.labels import PartialLabels


class SemiSupervisedVAE(VAE):
    prior: M2

    def __init__(
        self,
        pretraining: float,  # share of the run that M1 learns in
        alpha: float,  # weight of the classifier's cross-entropy
        labelled_weight: float,  # of L, 1 minus that of U: the labelled share of all images, not of batches
        **named: Any,  # of VAE; `prior` is M2, `kl` weighs M1's KL
    ):
        super().__init__(**named)
        if not 0 < pretraining < 1 or alpha < 0 or not 0 <= labelled_weight <= 1:
            raise UserError(
                f"model: pretraining={pretraining} is a share between 0 and 1, alpha={alpha} must not be negative, "
                f"labelled_weight={labelled_weight} is a share, 0 to 1"
            )
        self.pretraining, self.alpha, self.labelled_weight = pretraining, alpha, labelled_weight
        self.classes = self.prior.classes
        self.labels = PartialLabels("model=semi_supervised_vae", self.classes)
        self.first_prior = StandardNormal(self.latent_dim)  # of M1 alone

    @property
    def stage(self) -> int:
        """1 while M1 learns, then 2."""
        return 1 if self.progress < self.pretraining else 2

    def classify(self, x: Tensor) -> Tensor:
        return self.classify_codes(self.encode(x))

    def classify_codes(self, h: Tensor) -> Tensor:
        return self.prior.classifier(h).float()

    def sample_prior(self, n: int) -> Tensor:
        """Codes of classes that training images have."""
        return self.prior.sample_class(self.labels.pick(n))

    def sample_class(self, y: Tensor) -> Tensor:
        return self.decode(self.prior.sample_class(y))

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        known = self.labels.known(batch.y)
        if self.stage == 2:
            return self.second_loss(batch)
        unlabelled = batch.x[~known]  # labelled images come too often to learn pixels from
        return self.first_loss(unlabelled if len(unlabelled) else batch.x)

    def first_loss(self, x: Tensor) -> Tensor:
        """M1: the negative ELBO of a VAE, mean over the batch."""
        x = self.observe(x)
        drawn = self.posterior.draw(self.encoder(x))
        kl = self.first_prior.kl(drawn)
        reconstruction = -self.likelihood.log_prob(self.decoder(drawn.z).float(), x).mean()
        self.record(rows=len(x), first_negative_elbo=reconstruction + kl.sum(1).mean(), first_kl=kl.sum(1).mean())
        return reconstruction + self.kl(kl, self.progress)

    def second_loss(self, batch: Images) -> Tensor:
        """M2: J^alpha over N, of draws of q(z1|x)."""
        with torch.no_grad():
            z = self.sample_posterior(batch.x)
        known = batch.y >= 0
        labelled, y, unlabelled = z[known], batch.y[known], z[~known]
        labelled_loss = -average(self.prior.bound(labelled, y))
        unlabelled_loss = -average(self.prior.log_prob(unlabelled))
        logits = self.prior.classifier(labelled).float()
        classification = average(cross_entropy(logits, y, reduction="none"))
        self.record(rows=len(labelled), labelled_loss=labelled_loss, cross_entropy=classification)
        self.record(rows=len(unlabelled), unlabelled_loss=unlabelled_loss)
        weight = self.labelled_weight
        return weight * labelled_loss + (1 - weight) * unlabelled_loss + self.alpha * classification

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        known = batch.y >= 0
        wrong = self.classify(batch.x).argmax(1) != batch.y
        # for the curves: best.ckpt is chosen without labels
        self.record(rows=known.sum(), error_rate=average(wrong[known].float()))

    def on_train_epoch_end(self) -> None:
        self.labels.check()


def average(values: Tensor) -> Tensor:
    """The mean of (B,); 0 of none."""
    return values.sum() / max(1, len(values))
