"""Adversarial autoencoder whose prior's modes are classes.

Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, section 2.3 and figure 3. The discriminator's inputs are a
code and a one-hot vector of K + 1, the part of the prior that the code should come from: for an image of class k mode k
of the mixture p(z) (distributions.prior.Modes), for one without a label (the extra entry) all of it.
"""

from typing import Any

import torch
from torch import Tensor

from unlabeled.distributions.prior import Modes
from unlabeled.methods.autoencoder.adversarial_autoencoder import AdversarialAutoencoder
from unlabeled.nn.layers.labels import Classes


class SupervisedAdversarialAutoencoder(AdversarialAutoencoder):
    prior: Modes

    def __init__(
        self,
        *,
        classes: int | None,  # K
        **autoencoder: Any,  # of AdversarialAutoencoder; discriminator: codes (B, Z), y (B,) -> score (B,); K modes
    ):
        super().__init__(**autoencoder)
        self.labels = Classes("model=supervised_adversarial_autoencoder", classes)
        self.classes = self.labels.classes

    def sample_prior(self, n: int) -> Tensor:
        """From the modes of the classes that training images have."""
        return self.prior.draw(self.labels.pick(n))

    def sample_class(self, y: Tensor) -> Tensor:
        """From the mode of each class."""
        return self.decode(self.prior.draw(y))

    def prior_codes(self, y: Tensor) -> Tensor:
        self.labels.check_single(y)
        return self.prior.draw(torch.where(y < 0, self.labels.pick(len(y)), y))

    def score_codes(self, z: Tensor, y: Tensor) -> Tensor:
        return self.discriminator(z, y).float()
