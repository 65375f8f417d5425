"""Adversarial objectives: what the critic minimises and what the generator minimises, of scores (B,) or maps."""

from torch import Tensor
from torch.nn.functional import relu, softplus


class NonSaturating:
    """Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1 and the generator's remark of section 3.

    D: -log sigma(D(x)) - log(1 - sigma(D(G(z)))); G: -log sigma(D(G(z))). Scores are logits.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()


class LeastSquares:
    """Mao et al. 2017, https://arxiv.org/abs/1611.04076, equation 9: a = 0, b = c = 1.

    D: 1/2 (D(x) - 1)^2 + 1/2 D(G(z))^2; G: 1/2 (D(G(z)) - 1)^2.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor) -> Tensor:
        return (fake - 1).square().mean() / 2


class Wasserstein:
    """Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, equation 2."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class Hinge:
    """Lim & Ye 2017, https://arxiv.org/abs/1705.02894."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()
