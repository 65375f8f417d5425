"""Lower bound on the mutual information of a code and the image generated from it."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import cross_entropy, one_hot, softplus

from unlabeled.errors import UserError


class Codes:
    """A code c of categories, each uniform and one-hot, and of numbers, each uniform in [-1, 1]; and Q(c|x) of it.

    Chen et al. 2016, https://arxiv.org/abs/1606.03657, section 6. Q gives logits of each category, then of the numbers
    a Gaussian each: all means, and all raw scales, of which the standard deviation is `min_std` + softplus.
    """

    def __init__(
        self,
        categories: Sequence[int] = (10,),  # values of each
        numbers: int = 2,
        min_std: float = 1.0,  # smallest standard deviation of Q for a number
    ):
        if not categories or min(categories) < 2 or numbers < 0 or min_std <= 0:
            raise UserError(
                f"model.codes: categories={list(categories)}, numbers={numbers}, min_std={min_std}: at least one "
                "category, each of 2 values or more; 0 numbers or more; min_std above 0"
            )
        self.min_std = min_std
        self.categories, self.numbers = list(categories), numbers
        self.dim = sum(categories) + numbers  # of c
        self.outputs = self.dim + numbers  # of Q

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """(n, dim)."""
        drawn = [one_hot(torch.randint(k, (n,), device=device), k).float() for k in self.categories]
        return torch.cat([*drawn, 2 * torch.rand(n, self.numbers, device=device) - 1], 1)

    def mean(self, q: Tensor) -> Tensor:
        """Of Q (B, outputs), the expected c (B, dim)."""
        *logits, mu, _ = self.parts(q)
        return torch.cat([*(part.softmax(1) for part in logits), mu.clamp(-1, 1)], 1)

    def bound(self, c: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """L_I = E log Q(c|x) + H(c) <= I(c; x) of equation 5, in nats: of the categories, and of the numbers.

        c (B, dim), Q (B, outputs) -> two means over the batch.
        """
        *logits, mu, scale = self.parts(q.float())
        *drawn, numbers = self.parts(c, of_q=False)
        bounds = [log(part.shape[1]) - cross_entropy(part, y.argmax(1)) for part, y in zip(logits, drawn, strict=True)]
        log_q = Normal(mu, self.min_std + softplus(scale)).log_prob(numbers) + log(2)  # H of uniform in [-1, 1]
        return torch.stack(bounds).sum(), log_q.sum(1).mean()

    def parts(self, h: Tensor, of_q: bool = True) -> tuple[Tensor, ...]:
        """Each category, then the numbers; of Q their means and their scales."""
        return h.split([*self.categories, *[self.numbers] * (2 if of_q else 1)], 1)
