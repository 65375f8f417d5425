"""Adversarial objectives: losses of the discriminator and of the generator, of scores (B,) or maps of scores.

`has_signed_score`: a score above 0 means real, one below 0 fake.
"""

from typing import Protocol

from torch import Tensor
from torch.nn.functional import relu, softplus

from unlabeled.errors import UserError


class Objective(Protocol):
    """Losses of both players, each the mean over the batch."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Of scores (B, ...) of real and of fake images."""

    def generator(self, fake: Tensor) -> Tensor:
        """Of scores (B, ...) of fake images."""


class Minimax:
    """Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1: a zero-sum game.

    D: -log sigma(D(x)) - log(1 - sigma(D(G(z)))); G: log(1 - sigma(D(G(z)))), whose gradient can vanish.
    """

    has_signed_score = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -softplus(fake).mean()


class NonSaturating:
    """Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1 and the generator's remark of section 3.

    D: -log sigma(D(x)) - log(1 - sigma(D(G(z)))); G: -log sigma(D(G(z))). Scores are logits.
    """

    has_signed_score = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()


class LeastSquares:
    """Mao et al. 2017, https://arxiv.org/abs/1611.04076, equation 9: a = 0, b = c = 1.

    D: 1/2 (D(x) - 1)^2 + 1/2 D(G(z))^2; G: 1/2 (D(G(z)) - 1)^2.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor) -> Tensor:
        return (fake - 1).square().mean() / 2


class Wasserstein:
    """Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, equation 2. The discriminator is the paper's critic."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class WassersteinDrift(Wasserstein):
    """Karras et al. 2018, https://arxiv.org/abs/1710.10196, appendix A.1: plus drift * E D(x)^2, against drift."""

    def __init__(self, drift: float = 0.001):
        self.drift = drift

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator(real, fake) + self.drift * real.square().mean()


class Hinge:
    """Lim & Ye 2017, https://arxiv.org/abs/1705.02894."""

    has_signed_score = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class Margin:
    """Zhao et al. 2017, https://arxiv.org/abs/1609.03126, equations 1 and 2, of scores that are minus energies E.

    D: E(x) + max(0, m - E(G(z))); G: E(G(z)).
    """

    def __init__(self, margin: float = 10.0):
        if margin <= 0:
            raise UserError(f"model.objective.margin={margin}: it must be positive")
        self.margin = margin

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return -real.mean() + relu(self.margin + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class Relativistic:
    """Objectives whose generator's loss is the discriminator's with real and fake exchanged."""

    def generator(self, fake: Tensor) -> Tensor:
        raise UserError(
            f"objective={type(self).__name__}: the generator's loss depends on the scores of real images too; take "
            "model=relativistic_gan, or another objective"
        )


class RelativisticAverage(Relativistic):
    """Jolicoeur-Martineau 2019, https://arxiv.org/abs/1807.00734, section 4.2: scores against the other kind's mean.

    D: -log sigma(D(x) - E D(G(z))) - log(1 - sigma(D(G(z)) - E D(x))); G: the same with real and fake exchanged. The
    authors' code halves both.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()


class RelativisticPairing(Relativistic):
    """Jolicoeur-Martineau 2019, https://arxiv.org/abs/1807.00734, equation 6: scores of pairs.

    D: -log sigma(D(x) - D(G(z))); G: -log sigma(D(G(z)) - D(x)).
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real).mean()
