"""Adversarial autoencoder whose prior's modes are classes.

Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, section 2.3 and figure 3. The discriminator sees, beside a code,
a one-hot vector of K + 1 that says which part of the prior it has to be of: for an image of class k mode k of the
mixture p(z) (losses.prior.Modes), for one without a label (the extra entry) all of it.
"""

from typing import Any

import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.methods.autoencoder.adversarial_autoencoder import AdversarialAutoencoder
from unlabeled.nn.layers.labels import Classes


class SupervisedAdversarialAutoencoder(AdversarialAutoencoder):
    def __init__(
        self,
        *,
        classes: int
        | None,  # K; the discriminator: codes (B, Z), y (B,) -> score (B,); the prior: losses.prior.Modes of K
        **autoencoder: Any,  # see AdversarialAutoencoder
    ):
        super().__init__(**autoencoder)
        if not classes:
            raise UserError(
                "model=supervised_adversarial_autoencoder gives each class a mode, and this data has no classes: put "
                "its images into a folder for each class, or take model=adversarial_autoencoder"
            )
        self.classes = classes
        self.labels = Classes(classes)

    def sample_prior(self, n: int) -> Tensor:
        """From the modes of the classes that training images have."""
        return self.prior.draw(self.labels.pick(n))

    def sample_class(self, y: Tensor) -> Tensor:
        """From the mode of each class."""
        return self.decode(self.prior.draw(y))

    def wanted(self, y: Tensor) -> Tensor:
        if y.ndim != 1:
            raise UserError("model=supervised_adversarial_autoencoder learns from one class an image, not attributes")
        return self.prior.draw(torch.where(y < 0, self.labels.pick(len(y)), y))

    def judged(self, z: Tensor, y: Tensor) -> Tensor:
        return self.discriminator(z, y).float()
