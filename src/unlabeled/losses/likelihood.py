"""Likelihoods p(x|z): how a decoder's output is read as a distribution over images in [-1, 1].

Each says how it reads that range (`observe`), what density it gives (`log_prob`, nats, summed over pixels), what image
it means (`mean`), and the width of one 8-bit grey level in its units (`level_width`; 1 for a probability), so that

    bits/dim = -(log p(x) / dimensions + log level_width) / log 2.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from unlabeled.errors import UserError


class Bernoulli(nn.Module):
    """Each pixel black or white; the decoder gives logits. Kingma & Welling 2014, appendix C.1.

    `binarisation` says what becomes of grey: "none" reads it as a probability, as most code does (then exp(log_prob) is
    no probability of any image); "threshold" rounds it; "dynamic" draws it anew each time, as Burda et al. 2016 do.
    """

    level_width = 1.0

    def __init__(self, binarisation: str = "none"):
        super().__init__()
        kinds: dict[str, Callable[[Tensor], Tensor]] = {
            "none": lambda p: p,
            "threshold": lambda p: (p >= 0.5).to(p),
            "dynamic": torch.bernoulli,
        }
        if binarisation not in kinds:
            raise UserError(f"binarisation={binarisation}: there are none, threshold and dynamic")
        self.binarisation = binarisation
        self._binarise = kinds[binarisation]

    def extra_repr(self) -> str:
        return f"binarisation={self.binarisation}"

    def observe(self, x: Tensor) -> Tensor:
        """The image that is modelled, in [-1, 1]."""
        return self._binarise((x + 1) / 2) * 2 - 1

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of observed images x, (..., C, H, W) -> (...)."""
        target = ((x + 1) / 2).expand_as(output)
        return -binary_cross_entropy_with_logits(output, target, reduction="none").sum((-3, -2, -1))

    def mean(self, output: Tensor) -> Tensor:
        """The expected image in [-1, 1]."""
        return torch.sigmoid(output) * 2 - 1


class Gaussian(nn.Module):
    """Independent pixels around the decoder's output, with one standard deviation for all, learned or fixed.

    Learned: Rybkin et al. 2021, https://arxiv.org/abs/2006.13202, section 4.1. A density over [-1, 1].
    """

    level_width = 2 / 255

    def __init__(self, sigma: float = 0.3, learned: bool = True):
        super().__init__()
        self.learned = learned
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=learned)

    def extra_repr(self) -> str:
        return f"sigma={float(self.log_sigma.exp()):.4g}, learned={self.learned}"

    def observe(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x|z), (..., C, H, W) -> (...)."""
        # below half a grey level a Gaussian says nothing of 8-bit images, and its density has no bound
        log_sigma = self.log_sigma.clamp(min=math.log(1 / 255))
        error = (x - output) * torch.exp(-log_sigma)
        return -(0.5 * math.log(2 * math.pi) + log_sigma + 0.5 * error.square()).sum((-3, -2, -1))

    def mean(self, output: Tensor) -> Tensor:
        """The output, clamped to [-1, 1]."""
        return output.clamp(-1, 1)
